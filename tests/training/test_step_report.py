"""The figures of a report, from sums and times that are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from e2vpt.training import step_report
from e2vpt.training.step_report import StepReport, StepTeller
from e2vpt.training.sums import RunningSums


def test_figures_are_means_and_times_are_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the second of three epochs took 4 s: one and a half are left, of 8 s each."""
    monkeypatch.setattr(step_report, "time", SimpleNamespace(monotonic=lambda: 10.0))
    sums, told = RunningSums(4), list[StepReport]()
    sums.add([torch.tensor(value) for value in (6.0, 3.0, 4.0, 8.0)])  # loss, weight, hits, images
    accelerator: Any = SimpleNamespace(device=torch.device("cpu"), num_processes=2)
    StepTeller(told.append, 3, 4, accelerator)(1, 2, sums, 6.0)
    (report,) = told
    assert (report.epoch, report.epochs, report.step, report.steps) == (2, 3, 2, 4)
    assert (report.loss, report.accuracy) == (2, 0.5)
    assert (report.images_per_second, report.seconds_left) == (4, 12)
