"""Pages that are one file: whatever text goes in stays text."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import UndefinedError
from PIL import Image

from e2vpt.insight.documents import data_uri, filled

HOSTILE = "</script><script>x</script>&<!--"


def embedding(**changes: Any) -> str:
    """A page of no points."""
    values = {"run": "r", "split": "test", "images": "i", "num_images": 0, "classes": [], "figures": []}
    return filled("embedding.html", **{**values, "spaces": [], "data": {}, **changes})


@given(st.text() | st.just(HOSTILE))
def test_data_cannot_end_its_element(name: str) -> None:
    page = embedding(data={"name": name})
    (found,) = re.findall(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert json.loads(found) == {"name": name}
    assert page.count("<script") == 2


def test_names_are_text() -> None:
    page = embedding(run=HOSTILE, classes=[{"name": HOSTILE, "colour": "red"}])
    assert page.count("<script") == 2 and page.count("&lt;/script&gt;") == 4


def test_tables_can_be_scrolled_by_keyboard() -> None:
    assert re.search(r'tabindex="0" role="region" aria-label="Table of class separation"', embedding())


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        filled("embedding.html")


@pytest.mark.parametrize("quality", [50, 95])
def test_a_picture_travels_inside(quality: int) -> None:
    assert data_uri(Image.new("RGB", (8, 8)), quality=quality).startswith("data:image/jpeg;base64,/9j/")
