"""The page of explanations in a real browser: nothing from elsewhere, no script of a name, details open."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from support.browser_for_tests import opened_page
from support.insight_for_tests import CLASSES, task_model

from e2vpt.data import ImageFile
from e2vpt.insight.explanations.explain_figure import explain_png
from e2vpt.insight.explanations.explain_page import explain_page
from e2vpt.insight.explanations.explaining import Explanation, explain_image

pytestmark = pytest.mark.usefixtures("one_thread")
HOSTILE_FILE = "<script>window.hacked=1</script>.png"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Explanation]:
    folder = tmp_path_factory.mktemp("explain")
    Image.linear_gradient("L").convert("RGB").save(folder / "a.png")
    models = {f"{kind} <b>": task_model(folder, kind) for kind in ("e2vpt", "linear", "bias", "swin")}
    image = ImageFile(name=HOSTILE_FILE, path=folder / "a.png")
    return explain_image(models, image, label=CLASSES[1], steps=2)


def test_it_opens_without_errors_and_details_unfold(rows: list[Explanation], tmp_path: Path) -> None:
    path = tmp_path / "explain.html"
    path.write_bytes(explain_page([rows, rows[:1]]))
    for width, scheme in ((1280, "light"), (390, "dark")):
        with opened_page(path, width, scheme) as page:
            assert page.inner_text("h2 >> nth=0") == HOSTILE_FILE
            assert f"why {CLASSES[1]}?" in page.inner_text("section >> nth=0")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("section").count() == 2
            images = page.locator("section:first-of-type img")
            # Four of a ViT with watched attention; three without, and of Swin.
            assert images.count() == 4 + 4 + 3 + 3
            assert all(alt for alt in images.evaluate_all("all => all.map(each => each.alt)"))
            loaded = images.evaluate_all("all => all.map(each => each.naturalWidth)")
            assert all(found >= 224 for found in loaded)
            heads = page.locator("#p1-0-heads")
            assert heads.locator("table").count() == 2 and not heads.locator("table >> nth=0").is_visible()
            page.focus("#p1-0-heads summary")
            page.keyboard.press("Enter")
            assert heads.locator("table >> nth=0").is_visible()
            page.click("#p1-0-prompts summary")
            tables = page.locator("#p1-0-prompts table")
            shares = rows[0].shares
            assert shares is not None
            for table, blocks in zip(tables.all(), (shares.visual, shares.key_value), strict=True):
                cells = table.locator("tbody tr").first.locator("td").all_inner_texts()
                assert cells == [f"{share:.1%}" for share in blocks[0].mean(0).tolist()]
            text = page.inner_text("main")
            assert "Rollout is not defined for Swin" in text and "attention, so it is not watched" in text
            assert "This adapter has no prompts." in text
            assert page.evaluate("window.hacked") is None


def test_the_picture_is_a_png_whatever_the_names(rows: list[Explanation], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(explain_png(rows))
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > 1000
