"""Calibration beside torchmetrics and a direct optimisation; a stored temperature divides the logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

import e2vpt
from e2vpt.insight.reports.calibration import (
    calibration_error,
    fit_temperature,
    reliability,
    store_temperature,
)


def random_answers(num_classes: int, scale: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (400,), generator=generator)
    logits = torch.randn(400, num_classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(400), labels] += 1.5
    return logits * scale, labels


@pytest.mark.parametrize(("num_classes", "scale", "bins"), [(2, 1.0, 15), (7, 3.0, 15), (43, 0.4, 10)])
def test_the_error_is_that_of_torchmetrics(num_classes: int, scale: float, bins: int) -> None:
    logits, labels = random_answers(num_classes, scale, num_classes)
    probabilities = logits.softmax(1)
    found = calibration_error(reliability(probabilities, labels, bins))
    expected = multiclass_calibration_error(probabilities, labels, num_classes=num_classes, n_bins=bins)
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_bins_count_every_image_once_the_surest_included() -> None:
    probabilities = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.8, 0.2], [0.2, 0.8]], dtype=torch.float64)
    bins = reliability(probabilities, torch.tensor([0, 1, 0, 0]), 10)
    assert [b.count for b in bins] == [0, 0, 0, 0, 1, 0, 0, 2, 0, 1]
    assert (bins[-1].accuracy, bins[7].accuracy, bins[4].accuracy) == (1.0, 0.5, 0.0)
    assert bins[7].confidence == pytest.approx(0.8)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_a_direct_optimisation(scale: float) -> None:
    logits, labels = random_answers(6, scale, 3)
    direct = minimize_scalar(
        lambda t: float(F.cross_entropy(logits / t, labels)), bounds=(0.05, 20), options={"xatol": 1e-10}
    )
    assert fit_temperature(logits, labels) == pytest.approx(direct.x, rel=1e-5)


@pytest.mark.parametrize("margin", [0.01, 1.0, 2.0, 8.0, 40.0])
def test_no_temperature_fits_answers_that_are_all_right_or_all_wrong(margin: float) -> None:
    logits = margin * torch.eye(3, dtype=torch.float64)
    assert fit_temperature(logits, torch.arange(3)) is None
    assert fit_temperature(logits, torch.tensor([1, 2, 0])) is None


def test_a_stored_temperature_divides_the_logits(tmp_path: Path) -> None:
    backbone = e2vpt.load_backbone("demo", num_classes=3)
    model = e2vpt.prompt(backbone, e2vpt.PromptConfig(num_visual=2, num_kv=1, init="uniform")).eval()
    path, images = tmp_path / "task.safetensors", torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
    e2vpt.save_adapter(model, path, classes=["a", "b", "c"], metrics={"val_accuracy": 0.5})
    store_temperature(path, 2.5)
    store_temperature(path, 0.8)
    loaded, info = e2vpt.load_adapter(path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), before / 2.0)
    assert info.metrics["temperature"] == pytest.approx(2.0) and info.metrics["val_accuracy"] == 0.5
