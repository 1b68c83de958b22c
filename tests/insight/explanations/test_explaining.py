"""One picture through several models: figures, refusals, and what is said of methods without prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.insight_for_tests import CLASSES, task_model

from e2vpt.data import ImageFile
from e2vpt.errors import ConfigError, UnreadableImages
from e2vpt.insight.explanations.explaining import explain_image

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def picture(tmp_path: Path) -> ImageFile:
    path = tmp_path / "a.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    return ImageFile(name="a.png", path=path)


def test_all_models_are_asked_about_the_same_class(picture: ImageFile, tmp_path: Path) -> None:
    models = {kind: task_model(tmp_path, kind) for kind in ("e2vpt", "vpt-deep", "linear", "bias", "swin")}
    rows = explain_image(models, picture, steps=4)
    assert [row.run for row in rows] == list(models)
    assert len({row.explained[0] for row in rows}) == 1 and rows[0].explained[0] == rows[0].top[0][0]
    by_run = {row.run: row for row in rows}
    with_prompts = {run for run, row in by_run.items() if row.without is not None}
    assert with_prompts == {"e2vpt", "vpt-deep", "swin"}
    assert by_run["bias"].shares is None and by_run["bias"].rollout is None
    assert by_run["swin"].shares is not None and by_run["swin"].rollout is None
    linear = by_run["linear"]
    assert linear.shares is not None and linear.shares.by_block()[:, 2:].max() == 0
    for row in rows:
        figures = row.figures()
        assert sum(figures["scores"]) <= 1 + 1e-6 and row.seen.shape == (*row.integrated.shape, 3)
        assert row.seen.min() >= 0 and row.seen.max() <= 1 and np.isfinite(row.cam).all()
        if figures["attention"] is not None:
            assert all(sum(head) == pytest.approx(1) for block in figures["attention"] for head in block)
            for block, prompts in zip(figures["attention"], figures["attention_by_prompt"], strict=True):
                of_heads = zip(block, prompts["visual"], prompts["key_value"], strict=True)
                assert all(sum(v) + sum(k) == pytest.approx(head[2] + head[3]) for head, v, k in of_heads)


def test_the_prompts_are_really_off_in_the_answer_without_them(picture: ImageFile, tmp_path: Path) -> None:
    model = task_model(tmp_path, "e2vpt")
    (with_prompts,) = explain_image({"run": model}, picture, steps=2)
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if "prompts" in name:
                parameter.mul_(-3)
    (changed,) = explain_image({"run": model}, picture, label=with_prompts.explained[0], steps=2)
    assert changed.explained[1] != with_prompts.explained[1]
    assert changed.without is not None and changed.without == with_prompts.without


def test_an_unknown_class_is_refused(picture: ImageFile, tmp_path: Path) -> None:
    model = task_model(tmp_path, "e2vpt")
    with pytest.raises(ConfigError, match=rf"does not know the class 'car'\. It knows {CLASSES[0]}"):
        explain_image({"mine": model}, picture, label="car")


def test_a_picture_that_does_not_decode_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableImages, match=r"broken\.png"):
        explain_image({"run": task_model(tmp_path, "e2vpt")}, ImageFile(name="broken.png", path=path))
