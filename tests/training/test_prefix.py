"""Prompts from a later block on: tokens in place of images, computed once, change nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones_for_tests import gradients, images_for, prompted, relative, tiny_swin, tiny_vit
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import PromptConfig, RunConfig, TrainConfig, read_adapter
from e2vpt.benchmarks.cost import flops
from e2vpt.config import MethodConfig
from e2vpt.data.samples import ComputedDataset
from e2vpt.errors import ConfigError
from e2vpt.runs.prepare import prepare
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run
from e2vpt.training.prefix import first_tokens, num_prefix_bytes, with_prefix

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=4, num_kv=2, first_block=2),
    train=TrainConfig(epochs=2, batch_size=9),
)


@pytest.fixture
def task(tmp_path: Path) -> e2vpt.Task:
    return e2vpt.load_task(write_task(tmp_path / "shapes"))


@pytest.mark.parametrize("pool", [{}, {"global_pool": "avg"}, {"global_pool": "map", "class_token": False}])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_tokens_in_place_of_images(first: int, pool: dict[str, Any]) -> None:
    model = prompted(tiny_vit(**pool), num_visual=4, num_kv=3, first_block=first)
    assert [layer.num_visual for layer in e2vpt.prompt_layers(model)] == [0] * first + [4] * (3 - first)
    images = images_for(model)
    tokens = first_tokens(model, images)
    assert not tokens.requires_grad and tokens.shape[0] == 2 and tokens.shape[2] == 48
    assert num_prefix_bytes(model, 2) == tokens.numel() * 4
    for _ in range(2):
        found, expected = model(tokens), model(images)
        assert relative(found, expected) < 1e-12
        ours, theirs = (gradients(model, x.square().sum()) for x in (found, expected))
        scale = max(float(g.abs().max()) for g in theirs.values())
        assert all(float((ours[name] - theirs[name]).abs().max()) < 1e-12 * scale for name in theirs)
        model.set_grad_checkpointing()


def test_hooks_on_the_last_block_see_all_rows() -> None:
    model = prompted(tiny_vit(), num_visual=4, num_kv=3, first_block=1)
    images, seen = images_for(model), []
    expected = model(images)
    model.blocks[-1].register_forward_hook(lambda *args: seen.append(args[2].shape))
    assert relative(model(first_tokens(model, images)), expected) < 1e-12
    assert seen == [(2, 17, 48)]


def test_no_gradient_goes_through_the_blocks_before() -> None:
    """A step costs the forward pass, and about as much again for each block with prompts."""
    ratios = []
    for first in (0, 2):
        model = prompted(tiny_vit(torch.float32), num_visual=1, num_kv=0, first_block=first)
        images = images_for(model)
        step = flops(lambda: model(images).sum().backward())  # noqa: B023
        with torch.no_grad():
            ratios.append(step / flops(lambda: model(images)))  # noqa: B023
    assert ratios[0] > 1.7
    assert ratios[1] - 1 < (ratios[0] - 1) / 2


def test_batches_keep_their_order_and_labels(task: e2vpt.Task) -> None:
    prepared = prepare(task, CONFIG)
    assert isinstance(prepared.train._dataset, ComputedDataset)
    plain = prepare(task, dataclasses.replace(CONFIG, prompts=PromptConfig(num_visual=4, num_kv=2)))
    for epoch in (0, 1):
        for loader in (prepared.train, plain.train):
            loader.set_epoch(epoch)
        pairs = list(zip(prepared.train, plain.train, strict=True))
        for (tokens, labels), (images, expected) in pairs:
            assert torch.equal(labels, expected)
            assert relative(tokens, first_tokens(prepared.model.eval(), images)) < 1e-5
    in_order = [labels for _, labels in prepared.train.in_order()]
    assert torch.equal(torch.cat(in_order), torch.tensor(plain.train.labels))
    assert prepared.train.num_images == len(task.train) == 18 and len(prepared.train) == len(plain.train)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_on_tokens_is_the_training_on_images(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, precision=precision))
    stored = train_run(task, config, tmp_path / "stored").result.history
    monkeypatch.setattr("e2vpt.runs.prepare._KEEP_BYTES", 0)
    assert not isinstance(prepare(task, config).train._dataset, ComputedDataset)
    recomputed = train_run(task, config, tmp_path / "recomputed").result.history
    for a, b in zip(stored, recomputed, strict=True):
        assert a == pytest.approx(b, rel=1e-4 if precision == "fp32" else 0.02)
    info = read_adapter(tmp_path / "stored/adapter.safetensors")
    assert info.num_visual[:3] == (0, 0, 4) and info.prompts.first_block == 2


def test_a_resumed_training_ends_with_the_same_bytes(task: e2vpt.Task, tmp_path: Path) -> None:
    train_run(task, CONFIG, tmp_path / "whole")

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(task, CONFIG, tmp_path / "broken", reporting=Reporting(on_epoch=stop))
    train_run(task, CONFIG, tmp_path / "broken", resume=True)
    files = [(tmp_path / name / "adapter.safetensors").read_bytes() for name in ("whole", "broken")]
    assert files[0] == files[1]


@pytest.mark.parametrize("changes", [{"augment": "crop"}, {"drop_path": 0.1}, {"mixup": 0.2}])
def test_where_chance_forbids_it_images_stay(task: e2vpt.Task, changes: dict[str, Any]) -> None:
    part = "data" if "augment" in changes else "train"
    config = dataclasses.replace(CONFIG, **{part: dataclasses.replace(getattr(CONFIG, part), **changes)})
    assert not prepare(task, config).train.holds_computed


def test_where_something_is_tuned_before_the_prompts_images_stay(task: e2vpt.Task) -> None:
    tuned = dataclasses.replace(CONFIG, options=MethodConfig(beside="bias"))
    assert prepare(task, CONFIG).train.holds_computed
    assert not prepare(task, tuned).train.holds_computed


def test_pruning_works_on_tokens(task: e2vpt.Task, tmp_path: Path) -> None:
    pruned = train_and_prune(task, CONFIG, e2vpt.PruneConfig(num_segments=4), tmp_path / "run")
    assert pruned.tried[-1].kept <= 0.5
    info = read_adapter(tmp_path / "run/unpruned.safetensors")
    assert info.num_visual[:3] == (0, 0, 4)


def test_swin_has_prompts_from_a_later_block_too() -> None:
    model = prompted(tiny_swin(), num_visual=2, num_kv=1, first_block=3)
    assert [layer.num_visual for layer in e2vpt.prompt_layers(model)] == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"first_block": -1}, "first_block is -1; expected a whole number of at least 0"),
        ({"first_block": 1, "visual_depth": "shallow"}, "first_block is for deep prompts"),
        ({"first_block": 1, "kv_depth": "shallow"}, "first_block is for deep prompts"),
        ({"first_block": 3}, "first_block is 3; the backbone has blocks 0 to 2"),
    ],
)
def test_bad_settings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        e2vpt.prompt(tiny_vit(), PromptConfig(**values))


def test_device_of_the_tokens(task: e2vpt.Task) -> None:
    prepared = prepare(task, CONFIG)
    again = with_prefix(
        prepare(task, dataclasses.replace(CONFIG, prompts=PromptConfig())).train,
        prepared.model,
        torch.device("cpu"),
        torch.bfloat16,
    )
    tokens, _ = next(iter(again))
    assert tokens.dtype == torch.float32 and tokens.device.type == "cpu"


def test_stored_tokens_are_shared_only_where_they_would_be_the_same(task: e2vpt.Task) -> None:
    prepared = prepare(task, CONFIG)
    other_rate = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, lr=0.1))
    assert prepare(task, other_rate, prepared).train is prepared.train
    for changes in (
        {"options": MethodConfig(beside="bias")},  # tunes what comes before the first prompted block
        {"method": "vpt-shallow"},  # prompts in the first block
        {"prompts": dataclasses.replace(CONFIG.prompts, first_block=1)},
        {"train": dataclasses.replace(CONFIG.train, precision="bf16")},
    ):
        assert prepare(task, dataclasses.replace(CONFIG, **changes), prepared).train is not prepared.train
