"""A model's answers, image by image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.insight_for_tests import task_model
from support.tasks_for_tests import write_task

from e2vpt.data import load_task
from e2vpt.insight.reports.measured import measure_images


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_answers_are_in_the_order_of_the_images(tmp_path: Path, batch_size: int) -> None:
    model = task_model(tmp_path, "e2vpt")
    task = load_task(write_task(tmp_path / "images", train=2))
    told: list[tuple[int, int]] = []
    found = measure_images(
        model, task.train, "test", batch_size=batch_size, on_images=lambda *n: told.append(n)
    )
    assert found.logits.shape[0] == len(task.train) and found.logits.dtype == torch.float64
    assert found.labels.tolist() == list(task.train.labels)
    assert told[-1] == (len(task.train), len(task.train))
    one_by_one = [
        measure_images(model, task.train.subset([i]), "test").logits for i in range(len(task.train))
    ]
    assert torch.allclose(found.logits, torch.cat(one_by_one), atol=1e-4)
    assert found.metrics.num_images == len(task.train)
    assert torch.allclose(found.probabilities.sum(1), torch.ones(len(task.train), dtype=torch.float64))
