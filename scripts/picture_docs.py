"""Pictures for the docs, taken of what `e2vpt demo` leaves: its report, and the explanation of one image.

python scripts/picture_docs.py [--demo runs/demo]

Needs Chromium and the extra `explain`. Run `e2vpt demo` first. Writes docs/assets/report-light.png,
report-dark.png and explain.jpg.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ASSETS = Path(__file__).parents[1] / "docs" / "assets"
IMAGE = "data/test/row-2-column-3/000.png"
WIDTH, HEIGHT = 1100, 1330
COLOURS = 64
"""Enough for pages of few colours; a third of the bytes."""


def run_e2vpt(*words: str | Path) -> None:
    """A command, or the end."""
    subprocess.run([sys.executable, "-m", "e2vpt", *map(str, words)], check=True)


def photographed(page: Path, theme: str) -> Image.Image:
    """The top of a page as a browser shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)  # type: ignore[arg-type]
        tab.goto(page.absolute().as_uri())
        picture = tab.screenshot()
        browser.close()
    return Image.open(io.BytesIO(picture))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    demo: Path = parser.parse_args().demo
    run_e2vpt("report", demo / "e2vpt")
    for theme in ("light", "dark"):
        page = photographed(demo / "e2vpt/report.html", theme).convert("RGB").quantize(COLOURS)
        page.save(ASSETS / f"report-{theme}.png", optimize=True)
    with tempfile.TemporaryDirectory() as folder:
        words = ("--beside", demo / "linear", "--out", folder)
        run_e2vpt("explain", demo / "e2vpt", demo / IMAGE, *words)
        drawn = Image.open(next(Path(folder).glob("*.png"))).convert("RGB")
        drawn.save(ASSETS / "explain.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
