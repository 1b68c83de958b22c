"""What a report gathers: of a run, of an adapter alone, and after its temperature was stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import e2vpt
from e2vpt.data import load_task
from e2vpt.insight.reports.measured import measure_images
from e2vpt.insight.reports.record import read_record
from e2vpt.insight.reports.report import adapter_report, calibrated, run_report


def test_progress_goes_through_all_images_once(run: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = run_report(
        read_record(run), load_task(run.parent / "data"), on_images=lambda done, of: seen.append((done, of))
    )
    assert [m.split for m in report.measured] == ["test", "val"]
    assert seen[-1] == (28, 28) and seen == sorted(seen)


def test_validation_images_that_were_trained_on_are_not_measured(run: Path, tmp_path: Path) -> None:
    e2vpt.train(
        run.parent / "data",
        "demo",
        tmp_path / "all",
        verbose=False,
        epochs=1,
        prune=False,
        train_on="train+val",
    )
    report = run_report(read_record(tmp_path / "all"), load_task(run.parent / "data"))
    assert [m.split for m in report.measured] == ["test"] and report.temperature is None


def test_an_adapter_alone_has_no_record(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "adapter.safetensors", tmp_path / "shapes.safetensors")
    for path, named in ((tmp_path / "shapes.safetensors", "shapes"), (run / "adapter.safetensors", "data")):
        model = e2vpt.load(path, backbone="demo")
        test = load_task(run.parent / "data").test
        assert test is not None
        report = adapter_report(model, measure_images(model, test, "test"))
        assert report.name == named and (report.record is None) == (path.parent == tmp_path)
        assert report.temperature is None


def test_a_head_divided_by_its_temperature_answers_as_surely_as_it_is_right(run: Path) -> None:
    report = run_report(read_record(run), load_task(run.parent / "data"))
    assert report.temperature is not None
    again = calibrated(report)
    for before, after in zip(report.measured, again.measured, strict=True):
        assert (after.logits * report.temperature - before.logits).abs().max() < 1e-12
    assert again.temperature == pytest.approx(1.0, abs=1e-3)
