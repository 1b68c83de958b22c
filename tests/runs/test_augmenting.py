"""`augment="auto"`: what a model bears is asked once, written down, and trained with from then on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.killing import differences
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import DataConfig, PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.data.transforms import Augment
from e2vpt.pruning.applying import visual_kept
from e2vpt.runs import augmenting, prepare, recipe, retraining
from e2vpt.runs.augmenting import SwitchingBatches, borne_augmentation
from e2vpt.runs.folders.augmentation import AUGMENTATION
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=4, num_kv=2),
    data=DataConfig(augment="auto"),
    train=TrainConfig(epochs=4, batch_size=9, lr=0.01),
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> e2vpt.Task:
    return e2vpt.load_task(write_task(tmp_path_factory.mktemp("data") / "shapes"))


@pytest.mark.parametrize(
    ("plain", "mirrored", "shifted", "chosen"),
    [
        (0.9, 0.9, 0.88, "crop-flip"),
        (0.95, 0.78, 0.94, "shift"),
        (0.9, 0.85, 0.7, "flip"),
        (0.99, 0.3, 0.8, "none"),
        (0.9, 0.95, 0.99, "crop-flip"),
        (0.3, 0.3, 0.3, "none"),  # of ten classes: it has not learned the task, and has nothing to lose
        (0.38, 0.36, 0.36, "crop-flip"),
    ],
)
def test_what_a_model_keeps_it_bears(plain: float, mirrored: float, shifted: float, chosen: str) -> None:
    assert borne_augmentation(plain, mirrored, shifted, num_classes=10) == chosen


def sided_task(sided: bool) -> e2vpt.Task:
    """White bars: left or right of the middle, or upright or lying."""
    draw = np.random.default_rng(0)

    def image(label: int) -> Image.Image:
        pixels = draw.integers(20, 60, (24, 24, 3)).astype(np.uint8)
        at = int(draw.integers(2, 7))
        if sided:
            pixels[4:20, at + 12 * label : at + 12 * label + 3] = 220
        elif label:
            pixels[at + 6 : at + 9, 4:20] = 220
        else:
            pixels[4:20, at + 6 : at + 9] = 220
        return Image.fromarray(pixels)

    def split(count: int) -> Any:
        labels = tuple(i % 2 for i in range(count))
        images = tuple(
            e2vpt.data.ImageInMemory(name=f"{i}", pixels=image(label)) for i, label in enumerate(labels)
        )
        return e2vpt.data.Split(images=images, labels=labels)

    return e2vpt.Task(name="bars", classes=("a", "b"), train=split(60), val=split(40), test=split(2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sided", [True, False])
def test_a_model_that_learned_sides_is_not_shown_mirrored_images(
    tmp_path: Path, sided: bool, precision: Any
) -> None:
    said: list[str] = []
    train = TrainConfig(epochs=8, batch_size=10, lr=0.01, precision=precision)
    config = dataclasses.replace(CONFIG, train=train)
    train_run(sided_task(sided), config, tmp_path / "run", reporting=Reporting(on_stage=said.append))
    answer = json.loads((tmp_path / "run" / AUGMENTATION).read_text())
    assert answer["plain"] > 0.9, "it has learned the task"
    assert (answer["mirrored"] < 0.5) is sided
    assert ("flip" in answer["augment"]) is not sided
    assert said[-1].endswith(f"training goes on with augmentation {answer['augment']!r}")


def test_batches_change_at_the_epoch_and_ask_once(task: e2vpt.Task) -> None:
    prepared = prepare.prepare(task, CONFIG)
    asked: list[int] = []

    def later() -> Any:
        asked.append(1)
        return augmenting.augmented(prepared, "crop-flip").train

    batches = SwitchingBatches(prepared.train, 2, later)
    plain = prepared.train
    other = augmenting.augmented(prepared, "crop-flip").train
    for epoch in (0, 1, 2, 3, 1):
        batches.set_epoch(epoch)
        wanted = plain if epoch < 2 else other
        wanted.set_epoch(epoch)
        for (images, labels), (theirs, same) in zip(batches, wanted, strict=True):
            assert torch.equal(images, theirs) and torch.equal(labels, same)
    assert asked == [1]
    assert (len(batches), batches.labels, batches.num_images) == (2, plain.labels, 18)


class Stop(Exception):
    """What stands for a killed process."""


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("prunes", [True, False])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, prunes: bool
) -> None:
    # Everything is borne, so that the two ways to go on differ.
    monkeypatch.setattr(augmenting, "_LEAST_KNOWN", -1.0)
    monkeypatch.setattr(augmenting, "MOST_LOST", 1.0)
    epochs = 0

    def stop(_: Any) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 2 * at - 1:
            raise Stop

    def run(folder: Path, resume: bool = False, on_epoch: Any = None) -> None:
        config = dataclasses.replace(
            CONFIG, train=dataclasses.replace(CONFIG.train, epochs=3 if prunes else 6)
        )
        if prunes:
            reporting = Reporting(on_epoch=on_epoch)
            train_and_prune(
                task, config, PruneConfig(tolerance=1.0), folder, resume=resume, reporting=reporting
            )
        else:
            train_run(task, config, folder, resume=resume, reporting=Reporting(on_epoch=on_epoch))

    run(tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / AUGMENTATION).read_text())["augment"] == "crop-flip"
    with pytest.raises(Stop):
        run(tmp_path / "stopped", on_epoch=stop)
    run(tmp_path / "stopped", resume=True)
    assert differences(tmp_path / "whole", tmp_path / "stopped") == []


def test_a_run_that_was_stopped_after_its_answer_drops_the_same_prompts(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking the model draws random numbers; resumed, it is not asked again."""
    monkeypatch.setattr(augmenting, "_LEAST_KNOWN", -1.0)
    prompts = dataclasses.replace(CONFIG.prompts, dropout=0.5)
    train = dataclasses.replace(CONFIG.train, epochs=2)
    config = dataclasses.replace(CONFIG, prompts=prompts, train=train)

    def stop(report: Any) -> None:
        if report.epoch == 2:
            raise Stop

    train_run(task, config, tmp_path / "whole")
    with pytest.raises(Stop):
        train_run(task, config, tmp_path / "stopped", reporting=Reporting(on_step=stop))
    assert (tmp_path / "stopped" / AUGMENTATION).exists()
    train_run(task, config, tmp_path / "stopped", resume=True)
    assert differences(tmp_path / "whole", tmp_path / "stopped") == []


@pytest.mark.parametrize("chosen", ["none", "crop-flip"])
def test_both_trainings_have_what_the_first_bears(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: Augment
) -> None:
    monkeypatch.setattr(augmenting, "borne_augmentation", lambda *_, **__: chosen)
    trained_with: list[str] = []
    real_training, real_question = recipe.train_into, recipe.borne

    def watched(prepared: Any, folder: Path, **options: Any) -> Any:
        trained_with.append(prepared.config.data.augment)
        return real_training(prepared, folder, **options)

    def of_all_prompts(prepared: Any, *rest: Any) -> Any:
        assert visual_kept(prepared.model) == 1
        return real_question(prepared, *rest)

    for module in (recipe, retraining):
        monkeypatch.setattr(module, "train_into", watched)
    monkeypatch.setattr(recipe, "borne", of_all_prompts)
    prune = PruneConfig(tolerance=1.0)
    train_and_prune(task, CONFIG, prune, tmp_path / "auto")
    assert trained_with == ["auto", chosen]
    plain = dataclasses.replace(CONFIG, data=DataConfig(augment="none"))
    train_and_prune(task, plain, prune, tmp_path / "none")
    for name in ("unpruned.safetensors", "adapter.safetensors"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("auto", "none"))
        assert (first == second) is (chosen == "none")
    one_epoch = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=1))
    train_and_prune(task, one_epoch, prune, tmp_path / "short")  # asks after the first training
    assert (tmp_path / "short" / AUGMENTATION).exists() and trained_with[-2:] == ["auto", chosen]


def test_the_answer_is_said_once(task: e2vpt.Task, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        reporting = Reporting(on_stage=said.append)
        train_and_prune(task, CONFIG, PruneConfig(), tmp_path / "run", resume=True, reporting=reporting)
    assert sum(text.startswith("Validation accuracy") for text in said) == 1


def test_without_validation_images_nothing_is_augmented(task: e2vpt.Task, tmp_path: Path) -> None:
    for name in ("auto", "none"):
        data = DataConfig(augment=name, train_on="train+val")  # type: ignore[arg-type]
        said: list[str] = []
        config = dataclasses.replace(CONFIG, data=data)
        reporting = Reporting(on_stage=said.append)
        train_and_prune(task, config, PruneConfig(), tmp_path / name, reporting=reporting)
        told = [text for text in said if text.startswith("No validation images to choose an augmentation by")]
        assert len(told) == (name == "auto")
    adapters = [(tmp_path / name / "adapter.safetensors").read_bytes() for name in ("auto", "none")]
    assert adapters[0] == adapters[1]


def test_frozen_prefixes_are_not_asked(task: e2vpt.Task, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, prompts=PromptConfig(num_visual=2, first_block=1))
    train_run(task, config, tmp_path / "run")
    assert not (tmp_path / "run" / AUGMENTATION).exists()
