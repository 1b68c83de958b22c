"""Draw the pictures of the README: what is trained and what stays frozen, and accuracy against parameters.

    python -m scripts.draw_readme [FOLDER]

Writes SVG files for light and dark pages, the same bytes on every run of one matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from scripts.draw_readme.accuracy import plot_accuracy
from scripts.draw_readme.diagram import draw_method
from scripts.draw_readme.theme import THEMES

ROOT = Path(__file__).resolve().parents[2]
STYLE = {"svg.hashsalt": "e2vpt", "font.size": 11, "font.family": "DejaVu Sans"}


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
