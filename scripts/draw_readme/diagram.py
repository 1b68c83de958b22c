"""The method: what is trained and what stays frozen."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from scripts.draw_readme.theme import HEAD, KEY_VALUE, VISUAL, Theme


class Drawing:
    """The diagram of the method, in units of one hundredth of its width."""

    def __init__(self, axes: Axes, theme: Theme) -> None:
        self.axes, self.theme = axes, theme
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 40)
        axes.set_aspect("equal")
        axes.axis("off")

    def box(self, x: float, y: float, width: float, height: float, fill: str | None = None) -> None:
        """A box with round corners; frozen where no colour is given."""
        self.axes.add_patch(
            FancyBboxPatch(
                (x, y),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.9",
                facecolor=fill or self.theme.frozen,
                edgecolor=self.theme.edge if fill is None else fill,
                linewidth=1,
            )
        )

    def cell(self, x: float, y: float, fill: str, size: float = 1.9, alpha: float = 1.0) -> None:
        """A small square: a token, a prompt, an entry of the attention map."""
        self.axes.add_patch(
            Rectangle(
                (x, y), size, size, facecolor=fill, edgecolor=self.theme.page, linewidth=0.8, alpha=alpha
            )
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str = "") -> None:
        """A straight arrow."""
        self.axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=10,
                linewidth=1.3,
                color=colour or self.theme.faint,
                shrinkA=0,
                shrinkB=0,
            )
        )

    def words(self, x: float, y: float, text: str, colour: str = "", **options: object) -> None:
        """Text, centred at a point."""
        options = {"ha": "center", "va": "center", "fontsize": 9.5, **options}
        self.axes.text(x, y, text, color=colour or self.theme.text, **options)


def draw_method(axes: Axes, theme: Theme) -> None:
    """A frozen ViT with prompts as extra keys and values in every block, and a head."""
    art = Drawing(axes, theme)
    for row in range(4):
        for column in range(4):
            art.cell(
                1 + 2.2 * column, 19 + 2.2 * row, theme.edge, alpha=0.35 + 0.15 * ((row * 3 + column) % 4)
            )
    art.words(5.3, 17, "image")
    art.arrow((10.6, 23.3), (14.2, 23.3))
    _draw_block(art)
    for index, x in enumerate((67, 73.2, 79.4)):
        art.box(x, 14.5, 4.6, 17.6)
        art.words(x + 2.3, 26.3, ("block 2", "...", "block L")[index], rotation=90 if index != 1 else 0)
        for y, colour in ((18.4, VISUAL), (16, KEY_VALUE)):
            art.cell(x + 1.35, y, colour)
        if index < 2:
            art.arrow((x + 4.6, 23.3), (x + 6.2, 23.3))
    art.arrow((63.6, 23.3), (67, 23.3))
    art.arrow((84, 23.3), (87, 23.3))
    art.box(87, 19.6, 5.6, 7.4, HEAD)
    art.words(89.8, 23.3, "head", "#ffffff", weight="bold")
    art.arrow((92.6, 23.3), (95.2, 23.3))
    art.words(97.6, 23.3, "cat", fontsize=11)
    art.box(15, 0.6, 3, 2.4)
    art.words(19, 1.8, "frozen: one backbone for every task", ha="left", fontsize=10.5)
    for x, colour in ((53, VISUAL), (55.2, KEY_VALUE), (57.4, HEAD)):
        art.cell(x, 0.8, colour)
    art.words(60.4, 1.8, "trained: one small file for each task", ha="left", fontsize=10.5)


def _draw_block(art: Drawing) -> None:
    """The first block, opened: an attention map in which prompts are columns."""
    theme, left, top, step = art.theme, 27, 30.4, 2.2
    art.box(14.4, 4.6, 49.2, 33.6)
    art.words(17, 36, "block 1: self-attention", ha="left", fontsize=10.5, weight="bold")
    columns = [theme.edge] * 6 + [VISUAL] * 3 + [KEY_VALUE] * 2
    for row in range(6):
        for column, colour in enumerate(columns):
            alpha = 0.4 + 0.6 * (((row * 5 + column * 3) % 7) / 7)
            art.cell(left + step * column, top - step * row, colour, alpha=alpha)
    art.words(21, 25.9, "queries:\nimage\ntokens")
    art.words(left + 6.5, 33.6, "keys, values: image tokens", fontsize=8.5)
    art.words(left + 18.6, 33.6, "+ prompts", fontsize=8.5, weight="bold")
    art.words(16.6, 13, "Prompts are extra keys\nand values: columns,\nnever rows.", ha="left", fontsize=9)
    visual, key_value = left + 3 * 2.2 + 6 * 1.1 + 3.2, left + 22
    for index in range(3):
        art.cell(visual - 2 + step * index - 1.2, 6.4, VISUAL)
    art.words(visual - 5, 7.3, "visual\nprompts", VISUAL, ha="right")
    art.box(visual - 4.4, 10.4, 8.6, 4.4, theme.page)
    art.words(visual - 0.1, 12.6, "norm, $W_K$, $W_V$", fontsize=8.5)
    art.arrow((visual - 0.1, 8.5), (visual - 0.1, 10.4), VISUAL)
    art.arrow((visual - 0.1, 14.8), (visual - 0.1, 19), VISUAL)
    for index in range(2):
        art.cell(key_value - 2 + step * index, 6.4, KEY_VALUE)
    art.words(key_value + 3, 7.3, "key-value\nprompts", KEY_VALUE, ha="left")
    art.arrow((key_value + 0.1, 8.5), (key_value + 0.1, 19), KEY_VALUE)
    art.box(54.6, 19, 6.4, 13.3, theme.page)
    art.words(57.8, 25.6, "MLP")
    art.arrow((left + step * 11, 25.6), (54.6, 25.6))
