"""Pictures without a display, by matplotlib, which only reports need."""

from __future__ import annotations

import io
from typing import Any

from e2vpt.errors import MissingExtra


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches, which needs no display.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("Pictures are drawn by matplotlib: pip install 'e2vpt[bench]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
