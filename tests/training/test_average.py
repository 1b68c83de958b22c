"""Averaged weights: the sums of a plain loop, in validation, in what is kept, and after a kill."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt import TrainConfig, evaluate, fit
from e2vpt.files.container import read_container
from e2vpt.training.average import AveragedWeights
from e2vpt.training.checkpoint import Row, trained_state
from e2vpt.training.step_report import StepReport

DECAY = 0.5
DATA, VAL = batches([5, 4, 4]), batches([9], seed=1)


def config(**values: object) -> TrainConfig:
    return TrainConfig(**({"epochs": 3, "lr": 0.01, "average": DECAY} | values))  # type: ignore[arg-type]


def by_hand(model: nn.Module, epochs: int) -> list[dict[str, Tensor]]:
    """The averages after every epoch of a plain loop."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), weight_decay=1e-4)
    averages, after = trained_state(model), []
    for step in range(3 * epochs):
        images, labels = DATA[step % 3]
        optimizer.param_groups[0]["lr"] = 0.005 * (1 + math.cos(math.pi * step / (3 * epochs)))
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels, label_smoothing=0.1).backward()
        optimizer.step()
        decay = min(DECAY, (2 + step) / (11 + step))
        averages = {name: decay * a + (1 - decay) * trained[name].detach() for name, a in averages.items()}
        after.append(averages)
    return after[2::3]


def test_equals_a_plain_loop_and_is_what_is_validated() -> None:
    model = tiny_vit()
    expected, seen = copy.deepcopy(model), []
    after = by_hand(expected, 3)
    found = fit(model, DATA, VAL, config(warmup=0.0), on_epoch=lambda _: seen.append(trained_state(model)))
    for epoch, averages in enumerate(after):
        for name, average in averages.items():
            assert torch.allclose(seen[epoch][name], average, rtol=1e-9, atol=1e-9), name
        with torch.no_grad():
            for name, parameter in expected.named_parameters():
                parameter.copy_(averages.get(name, parameter))
        assert found.history[epoch]["val_loss"] == pytest.approx(evaluate(expected, VAL).loss, rel=1e-9)
    best = trained_state(model)
    assert all(torch.equal(best[name], seen[found.best_epoch - 1][name]) for name in best)


def test_early_weights_are_forgotten_first() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    values: dict[str, Tensor] = {}
    average = AveragedWeights({"weight": weight}, 0.99, values)
    with torch.no_grad():
        weight.fill_(1.0)
    for step, expected in ((1, 9 / 11), (2, 1 - 2 / 11 * 3 / 12)):
        average.add(step)
        assert float(values["weight"]) == pytest.approx(expected)
    with average.in_place():
        assert torch.equal(weight, values["weight"])
    assert weight.item() == 1.0


@pytest.mark.parametrize("step", [2, 4, 8])
def test_resume_equals_uninterrupted(tmp_path: Path, step: int) -> None:
    torch.manual_seed(1)
    start = tiny_vit(dropout=0.3)
    whole, broken, resumed = (copy.deepcopy(start) for _ in range(3))
    ends: list[dict[str, Tensor]] = []
    expected = fit(whole, DATA, VAL, config(), on_epoch=lambda _: ends.append(trained_state(whole)))

    def kill(report: StepReport) -> None:
        if (report.epoch - 1) * 3 + report.step == step:
            raise KeyboardInterrupt

    told: list[tuple[int, dict[str, Tensor]]] = []

    def tell(history: list[Row]) -> None:
        told.append((len(history), trained_state(resumed)))

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(broken, DATA, VAL, config(), checkpoint=path, on_step=kill)
    assert fit(resumed, DATA, VAL, config(), checkpoint=path, resume=True, on_epoch=tell) == expected
    for name, tensor in trained_state(whole).items():
        assert torch.equal(tensor, trained_state(resumed)[name])
    for length, state in told:  # also what was told of the epochs before the kill
        assert all(torch.equal(state[name], tensor) for name, tensor in ends[length - 1].items())
    assert [length for length, _ in told] == list(range(max(1, (step - 1) // 3), 4))


def test_a_checkpoint_holds_the_weights_and_their_averages(tmp_path: Path) -> None:
    path, model = tmp_path / "checkpoint.safetensors", tiny_vit()
    fit(model, DATA, None, config(), checkpoint=path)
    _, tensors, _ = read_container(path)
    for name, tensor in trained_state(model).items():
        assert torch.equal(tensors[f"average.{name}"], tensor)
        assert torch.equal(tensors[f"best.{name}"], tensor)
        assert not torch.equal(tensors[f"model.{name}"], tensor)
    fit(tiny_vit(), DATA, None, config(average=0.0), checkpoint=path)
    assert not [name for name in read_container(path)[1] if name.startswith("average.")]
