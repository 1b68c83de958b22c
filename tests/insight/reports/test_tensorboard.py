"""What TensorBoard is given: each training once, each epoch once, also where a run went on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.tasks_for_tests import write_task

from e2vpt import PromptConfig, RunConfig, TrainConfig, load_task
from e2vpt.insight.reports.tensorboard import tensorboard_log
from e2vpt.runs.folders.folder import read_log
from e2vpt.runs.train import train_task

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_every_epoch_is_logged_once_also_after_an_interruption(tmp_path: Path) -> None:
    task, out = load_task(write_task(tmp_path / "data")), tmp_path / "run"
    config = RunConfig(
        backbone="demo",
        prompts=PromptConfig(num_visual=2, num_kv=0),
        train=TrainConfig(epochs=3, batch_size=9, lr=0.01),
    )
    first = tensorboard_log(out)

    class Stopped(Exception):
        pass

    def stop(row: dict[str, float]) -> None:
        first(row)
        if row["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train_task(task, config, None, out, resume=False, verbose=False, on_epoch=stop)
    config = dataclasses.replace(config)
    train_task(task, config, None, out, resume=True, verbose=False, on_epoch=tensorboard_log(out))
    events = event_accumulator.EventAccumulator(str(out / "tensorboard/first")).Reload()
    rows = read_log(out)
    for tag, name in (("loss/train", "train_loss"), ("accuracy/val", "val_accuracy"), ("lr", "lr")):
        scalars = events.Scalars(tag)
        assert [s.step for s in scalars] == [1, 2, 3]
        assert [s.value for s in scalars] == pytest.approx([row[name] for row in rows])
