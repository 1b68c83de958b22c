"""Pages that are one file: whatever text goes in stays text."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from e2vpt.insight.documents import data_uri, marked_up, one_file_page, scrolling_table

HOSTILE = "</script><script>x</script>&<!--"


def test_data_cannot_end_its_element() -> None:
    page = one_file_page("t", "<p>body</p>", script="embedding.js", data={"name": HOSTILE}).decode()
    (found,) = re.findall(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert json.loads(found) == {"name": HOSTILE}
    assert HOSTILE not in page and "<p>body</p>" in page


def test_titles_and_names_are_text() -> None:
    assert HOSTILE not in one_file_page(HOSTILE, "").decode()
    assert marked_up("<b>\n\u202e") == "&lt;b&gt;\\n\\u202e"


def test_a_table_can_be_scrolled_by_keyboard() -> None:
    table = scrolling_table("figures", "<th>a</th>", "<tr><td>1</td></tr>", kind="wide", caption="c")
    assert 'tabindex="0"' in table and 'aria-label="figures"' in table and "<caption>c</caption>" in table


@pytest.mark.parametrize("quality", [50, 95])
def test_a_picture_travels_inside(quality: int) -> None:
    assert data_uri(Image.new("RGB", (8, 8)), quality=quality).startswith("data:image/jpeg;base64,/9j/")
