"""Colours of the pictures, on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass

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
