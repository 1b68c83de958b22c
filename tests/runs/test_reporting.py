"""The time left counts the trainings that are still to come."""

from __future__ import annotations

import pytest

from e2vpt.runs.reporting import Reporting
from e2vpt.training.step_report import StepReport


def report(epoch: int, step: int, seconds_left: float) -> StepReport:
    """Of a training of four epochs of five steps."""
    return StepReport(
        epoch=epoch,
        epochs=4,
        step=step,
        steps=5,
        loss=1.0,
        accuracy=0.5,
        images_per_second=9.0,
        seconds_left=seconds_left,
        memory=0,
    )


def test_the_time_left_counts_the_trainings_that_follow() -> None:
    told: list[float] = []
    reporting = Reporting(on_step=lambda given: told.append(given.seconds_left)).before(2)
    assert reporting.on_step is not None
    for given in (report(1, 1, 38.0), report(3, 5, 10.0), report(4, 5, 0.0)):
        reporting.on_step(given)
    assert told == pytest.approx([38 + 2 * 40, 10 + 2 * 40, 2 * 40])


def test_scored_images_are_counted() -> None:
    told: list[tuple[int, int]] = []
    count = Reporting(on_images=lambda done, total: told.append((done, total))).counting(5)
    count(3)
    count(2)
    assert told == [(3, 5), (5, 5)]
    Reporting().counting(5)(1)


def test_without_anyone_to_tell_or_anything_to_follow_nothing_changes() -> None:
    silent, last = Reporting(), Reporting(on_step=print)
    assert silent.before(1) is silent and last.before(0) is last
