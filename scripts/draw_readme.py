"""Draw the pictures of the README: what is trained and what stays frozen, and accuracy against parameters.

python scripts/draw_readme.py [FOLDER]

Writes SVG files for light and dark pages, the same bytes on every run of one matplotlib. The plot is of
docs/experiments/compare-vit-tiny-96px-results.csv and its 24-epoch companion, the tables of docs/results.md.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "docs" / "experiments"
RESULTS = EXPERIMENTS / "compare-vit-tiny-96px-results.csv"
LONGER = EXPERIMENTS / "compare-vit-tiny-96px-fp32-24-epochs-results.csv"
STYLE = {"svg.hashsalt": "e2vpt", "font.size": 11, "font.family": "DejaVu Sans"}

VISUAL, KEY_VALUE, HEAD = "#e0782f", "#2a9d8f", "#8a63d2"


@dataclass(frozen=True)
class Theme:
    """Colours of a page: its background, text, and what is frozen."""

    name: str
    page: str
    text: str
    faint: str
    frozen: str
    edge: str


THEMES = (
    Theme("light", "#ffffff", "#1f2328", "#59636e", "#e6eaef", "#8c959f"),
    Theme("dark", "#0d1117", "#e6edf3", "#9198a1", "#2a313c", "#6e7681"),
)


@dataclass(frozen=True)
class Point:
    """A method in the plot: trained parameters with the head, accuracy in %, its deviation over seeds."""

    parameters: float
    accuracy: float
    deviation: float


def points(table: Path) -> dict[str, Point]:
    """Every method of a table of results that has several seeds; means over its tasks."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["method"]].append(row)
    found = {}
    for method, mine in rows.items():
        seeds = sorted({row["seed"] for row in mine})
        means = [100 * statistics.mean(float(r["accuracy"]) for r in mine if r["seed"] == s) for s in seeds]
        size = statistics.mean(int(row["num_tuned"]) + int(row["num_head"]) for row in mine)
        if len(means) > 1:
            found[method] = Point(size, statistics.mean(means), statistics.stdev(means))
    return found


# method: label, colour, filled, offset of the label in points.
SHOWN = {
    "e2vpt": ("e2vpt, default recipe\n(trains twice: 24 epochs)", VISUAL, (9, 4), "left"),
    "e2vpt-no-prune": ("e2vpt, one training", VISUAL, (9, -2), "left"),
    "e2vpt-paper": ("E²VPT as in the paper\n(trains twice)", KEY_VALUE, (-9, -8), "right"),
    "bias": ("biases", None, (-9, -10), "right"),
    "lora": ("LoRA", None, (9, -11), "left"),
    "adapter": ("adapter", None, (9, -5), "left"),
    "vpt-deep": ("VPT-deep", None, (9, -4), "left"),
    "linear": ("linear head", None, (9, -4), "left"),
    "full": ("full fine-tuning", None, (0, -20), "center"),
}


def plot_accuracy(axes: Axes, theme: Theme) -> None:
    """Accuracy against trained parameters, one point for each method."""
    shown = points(RESULTS)
    for method, (label, colour, offset, side) in SHOWN.items():
        _dot(axes, shown[method], label, colour or theme.faint, offset, side, filled=True, theme=theme)
    longer = points(LONGER)["bias"]
    _dot(axes, longer, "biases, 24 epochs", theme.faint, (-9, 3), "right", filled=False, theme=theme)
    axes.set_xscale("log")
    axes.set_xlim(2e3, 1.4e7)
    axes.set_ylim(62, 85.5)
    axes.set_xticks([1e4, 1e5, 1e6, 1e7], ["10 k", "100 k", "1 M", "10 M"])
    axes.set_xlabel("trained parameters per task, head included")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(
        "ViT-Tiny, 96 px, mean of four tasks, three seeds; 12 epochs where not said otherwise",
        fontsize=10,
        color=theme.faint,
        loc="left",
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(theme.edge)
    axes.tick_params(which="both", colors=theme.faint)
    axes.xaxis.label.set_color(theme.text)
    axes.yaxis.label.set_color(theme.text)
    axes.grid(color=theme.edge, alpha=0.25, linewidth=0.6)


def _dot(
    axes: Axes,
    point: Point,
    label: str,
    colour: str,
    offset: tuple[int, int],
    side: str,
    *,
    filled: bool,
    theme: Theme,
) -> None:
    at = (point.parameters, point.accuracy)
    axes.errorbar(*at, yerr=point.deviation, color=colour, linewidth=1.2, capsize=2, zorder=2)
    axes.plot(
        *at, "o", markersize=8, color=colour, markerfacecolor=colour if filled else theme.page, zorder=3
    )
    strong = colour in (VISUAL, KEY_VALUE)
    axes.annotate(
        label,
        at,
        xytext=offset,
        textcoords="offset points",
        ha=side,
        fontsize=10,
        color=colour if strong else theme.text,
        weight="bold" if colour == VISUAL else "normal",
    )


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


def main(folder: Path) -> None:
    """Write both pictures for both kinds of page."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"method": (draw_method, (10, 4)), "accuracy": (plot_accuracy, (8.6, 4.4))}
    for theme in THEMES:
        for name, (draw, size) in pictures.items():
            with mpl.rc_context(STYLE):
                figure = Figure(figsize=size, facecolor=theme.page, layout="constrained")
                axes = figure.add_subplot(facecolor=theme.page)
                draw(axes, theme)
                path = folder / f"{name}-{theme.name}.svg"
                figure.savefig(path, metadata={"Date": None}, facecolor=theme.page)
            print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "assets")
