"""An adapter loaded and ready: predict, evaluate, embed, for paths and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt.data import eval_transform
from e2vpt.errors import AdapterError, DataError, RunError, UnreadableImages
from e2vpt.files.container import read_container, write_container

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set `data` and a run of it `run`."""
    folder = tmp_path_factory.mktemp("task")
    write_task(folder / "data", train=6, val=2, test=3)
    e2vpt.train(folder / "data", "demo", folder / "run", prune=False, epochs=3, verbose=False)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> e2vpt.TaskModel:
    return e2vpt.load(folder / "run")


def test_a_run_folder_and_its_adapter_file_are_the_same(folder: Path, model: e2vpt.TaskModel) -> None:
    other = e2vpt.load(folder / "run/adapter.safetensors")
    assert (other.path, other.info) == (model.path, model.info)
    assert not model.model.training


def test_predicts_as_the_command_does(folder: Path, model: e2vpt.TaskModel, e2vpt_command: Command) -> None:
    images = folder / "data/test/disc"
    code, out, _ = e2vpt_command("predict", str(folder / "run"), str(images), "--topk", "2", "--json")
    assert code == 0
    found = model.predict(images, topk=2)
    assert [
        {"file": p.file, "classes": list(p.classes), "scores": list(p.scores), "error": None} for p in found
    ] == [json.loads(line) for line in out.splitlines()]


def test_paths_pictures_and_arrays_give_the_same(folder: Path, model: e2vpt.TaskModel) -> None:
    path = folder / "data/test/ring/00.png"
    with Image.open(path) as image:
        picture = image.convert("RGB")
    forms = [path, str(path), picture, np.asarray(picture), [path], [picture]]
    found = [model.predict(form)[0] for form in forms]
    assert len({(p.classes, p.scores) for p in found}) == 1
    assert len(model.predict([path, picture, np.asarray(picture)])) == 3


def test_an_unreadable_image_has_an_error(folder: Path, model: e2vpt.TaskModel, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    good, bad = model.predict([folder / "data/test/ring/00.png", broken])
    assert good.classes and not good.error
    assert bad.error and not bad.classes
    with pytest.raises(UnreadableImages, match=r"broken\.png"):
        model.embed([folder / "data/test/ring/00.png", broken])


def test_evaluates_as_the_command_does(folder: Path, model: e2vpt.TaskModel, e2vpt_command: Command) -> None:
    code, out, _ = e2vpt_command("eval", str(folder / "run"), str(folder / "data"), "--json")
    assert code == 0
    metrics = model.evaluate(folder / "data")
    assert json.loads(out)["accuracy"] == metrics.accuracy
    assert metrics.num_images == 9
    everything = model.evaluate(folder / "data", split="all")
    assert everything.num_images == 33


def test_classes_that_the_adapter_does_not_know(model: e2vpt.TaskModel, tmp_path: Path) -> None:
    data = write_task(tmp_path / "data")
    for split in ("train", "val", "test"):
        (data / split / "ring").rename(data / split / "square")
    with pytest.raises(DataError, match="does not know: square"):
        model.evaluate(data)


def test_features_are_what_the_head_sees(folder: Path, model: e2vpt.TaskModel) -> None:
    files = sorted((folder / "data/test").rglob("*.png"))
    features = model.embed(files, batch_size=4)
    transform = eval_transform(model.info.preprocessing)
    images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    with torch.no_grad():
        logits = model.model(images)
        assert torch.allclose(model.model.get_classifier()(torch.from_numpy(features)), logits, atol=1e-5)  # type: ignore[operator]
    assert features.shape == (len(files), model.model.num_features)
    assert features.dtype == np.float32


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        e2vpt.load(tmp_path / "none")


def test_an_adapter_whose_numbers_overflow_is_an_error_and_not_a_class(
    folder: Path, e2vpt_command: Command, tmp_path: Path
) -> None:
    """Each number is finite; what the model makes of them is not."""
    path = tmp_path / "huge.safetensors"
    header, tensors, _ = read_container(folder / "run/adapter.safetensors")
    name = "tuned.blocks.0.attn.qkv.scale"
    write_container(path, header, tensors | {name: torch.full_like(tensors[name], 3e38)})
    model, images = e2vpt.load(path), folder / "data/test/disc"
    message = "huge.safetensors: the model computes values that are not finite numbers"
    for use, data in ((model.predict, images), (model.embed, images), (model.evaluate, folder / "data")):
        with pytest.raises(AdapterError, match=message):
            use(data)
    code, out, err = e2vpt_command("predict", str(path), str(images), "--json")
    assert (code, out) == (1, "") and "huge.safetensors: the model computes values" in err
