"""`bench tasks`: every way answers the batch, each with its own task, and the report says all of it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from e2vpt.benchmarks.speed import tasks as bench
from e2vpt.benchmarks.speed.contestants import Case
from e2vpt.benchmarks.speed.tasks import measure_tasks, write_task_report
from e2vpt.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

CASE = Case(backbone="test_vit", batch_size=3, num_classes=4)


def test_every_way_is_timed_and_reported(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    rows = measure_tasks(CASE, num_loaded=5, rounds=1, on_call=lambda *call: calls.append(call))
    names = [row.name for row in rows]
    assert names[0] == "plain backbone" and rows[0].timing.ratio == 1.0
    assert "the default recipe: every image its own task, 5 loaded" in names
    assert "LoRA r = 8 by row (PEFT)" in names and len(set(names)) == len(rows) == 10
    assert calls == [(i, 20) for i in range(1, 21)]
    held = [row for row in rows if row.bytes is not None]
    assert len(held) == 4 and all(row.bytes and row.load_seconds for row in held)
    text = write_task_report(tmp_path, CASE, rows, {"device": "some CPU"})
    assert (tmp_path / "tasks.md").read_text() == text and "* device: some CPU" in text
    with (tmp_path / "tasks.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == names


def test_the_peer_gives_every_row_its_own_adapter() -> None:
    torch.manual_seed(0)
    backbone = CASE.make_backbone().eval()
    images = torch.randn(1, 3, *backbone.patch_embed.img_size).expand(3, -1, -1, -1)  # type: ignore[union-attr, misc]
    with torch.no_grad():
        a, b, c = bench._lora(backbone, images, ["0", "1", "2"])()
        again = bench._one_by_one(backbone, images)
        assert again() is None
    assert not torch.allclose(a, b) and not torch.allclose(b, c)


def test_fewer_loaded_tasks_than_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_loaded is 2"):
        measure_tasks(CASE, num_loaded=2, rounds=1)
