"""Figures of a run: of the adapter that it holds, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2vpt.errors import RunError
from e2vpt.runs.folders.figures import FIGURES, read_figures, save_figures
from e2vpt.training.evaluate import Metrics

TEST = Metrics(accuracy=0.75, mean_class_accuracy=2 / 3, loss=1e-3, num_images=12)
VAL = Metrics(accuracy=1.0, mean_class_accuracy=1.0, loss=0.25, num_images=4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "adapter.safetensors").write_bytes(b"an adapter")
    return tmp_path


def test_they_come_back_as_they_were(run: Path) -> None:
    assert read_figures(run) == {}
    save_figures(run, {"test": TEST, "val": VAL})
    assert read_figures(run) == {"test": TEST, "val": VAL}


def test_another_adapter_has_none(run: Path) -> None:
    save_figures(run, {"test": TEST})
    (run / "adapter.safetensors").write_bytes(b"another one")
    assert read_figures(run) == {}
    save_figures(run, {"test": VAL})
    assert read_figures(run) == {"test": VAL}


@pytest.mark.parametrize(
    ("before", "after"),
    [('"num_images": 12', '"num_images": "many"'), ('"loss"', '"lost"'), ('"splits"', '"split"'), ("}", "")],
)
def test_a_damaged_file_is_named(run: Path, before: str, after: str) -> None:
    save_figures(run, {"test": TEST})
    path = run / FIGURES
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(RunError, match=r"figures\.json"):
        read_figures(run)


def test_a_run_without_its_adapter(run: Path) -> None:
    (run / "adapter.safetensors").unlink()
    with pytest.raises(RunError, match=r"adapter\.safetensors cannot be read"):
        save_figures(run, {"test": TEST})
