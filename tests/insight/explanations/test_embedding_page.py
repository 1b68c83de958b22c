"""The page of embeddings in a real browser: marks say which picture they are; classes can be chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser_for_tests import opened_page
from support.insight_for_tests import CLASSES

from e2vpt.insight.explanations.before_after import BeforeAfter
from e2vpt.insight.explanations.embedding import Embedding, in_disc, on_sheet
from e2vpt.insight.explanations.embedding_figure import embedding_png
from e2vpt.insight.explanations.embedding_page import embedding_page
from e2vpt.insight.explanations.separation import Separation

LABELS = np.arange(24) % 4


def made(apart: float) -> Embedding:
    flat = np.random.default_rng(0).normal(size=(24, 2)) + apart * np.eye(4)[LABELS][:, :2]
    figures = Separation(silhouette=apart / 10, nearest_centroid=0.5)
    spaces = dict.fromkeys(("features", "hyperbolic", "euclidean"), figures)
    return Embedding(disc=in_disc(on_sheet(flat)), plane=flat, separation=spaces)


@pytest.fixture
def found() -> BeforeAfter:
    files = tuple(f"</script><b>{i}.png" for i in range(24))
    same = {"run": "run", "data": "a&b", "split": "test", "seed": 0, "files": files, "classes": CLASSES}
    return BeforeAfter(**same, labels=LABELS, before=made(1.0), after=made(5.0))  # type: ignore[arg-type]


def test_marks_say_their_picture_and_classes_are_chosen(found: BeforeAfter, tmp_path: Path) -> None:
    path = tmp_path / "embedding.html"
    path.write_bytes(embedding_page(found))
    with opened_page(path, 1280, "light") as page:
        plots = page.locator(".plot svg")
        assert plots.count() == 4 and page.locator(".plot use").count() == 4 * 24
        rows = page.locator(".figures tbody tr").all_inner_texts()
        assert rows[0].split() == ["feature", "space", "silhouette", "0.100", "0.500"]
        plots.nth(2).locator("use").nth(5).dispatch_event("pointerover", {"bubbles": True})
        assert page.inner_text("#told") == f"</script><b>5.png: {CLASSES[1]}"
        assert page.locator("use.here").count() == 4
        plots.nth(0).focus()
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#told") == f"</script><b>6.png: {CLASSES[2]}"
        page.click("[data-class='3']")
        assert page.get_attribute("[data-class='3']", "aria-pressed") == "true"
        assert page.locator("use.away").count() == 4 * 18
        plots.nth(1).focus()
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#told") == f"</script><b>3.png: {CLASSES[3]}"
        page.click("[data-class='3']")
        assert page.locator("use.away").count() == 0
        assert page.evaluate("window.hacked") is None


def test_it_fits_a_phone_at_night(found: BeforeAfter, tmp_path: Path) -> None:
    path = tmp_path / "embedding.html"
    path.write_bytes(embedding_page(found))
    with opened_page(path, 390, "dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.is_hidden("#told")
        figures = page.locator(".figures").bounding_box()
        assert figures is not None and figures["x"] + figures["width"] <= 390


def test_the_picture_is_a_png_whatever_the_names(found: BeforeAfter, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(embedding_png(found))
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > 1000
