"""Tasks come, go and are replaced while others are predicted."""

from __future__ import annotations

import copy
import itertools
import threading
from pathlib import Path

import pytest
import torch
from support.backbones_for_tests import images_for, relative, tiny_vit
from support.multitask_for_tests import CLOSE, adapter, assert_close, expected
from torch import nn

from e2vpt import MultiTask
from e2vpt.errors import AdapterError, ConfigError
from e2vpt.files.container import read_container, write_container

pytestmark = pytest.mark.usefixtures("one_thread")


def test_tasks_come_and_go_while_others_stay(three: tuple[nn.Module, dict[str, nn.Module], Path]) -> None:
    backbone, models, folder = three
    tasks = MultiTask(copy.deepcopy(backbone))
    images = images_for(backbone, 2)
    for name in "abc":
        tasks.load(name, folder / name)
        assert_close(tasks(images, ["a", name]), expected(models, images, ["a", name]))
    tasks.load("a", folder / "c")  # in place of what was there
    assert_close(tasks(images, ["a", "b"]), expected(models, images, ["c", "b"]))
    tasks.remove("c")
    assert tasks.names == ("a", "b")
    assert_close(tasks(images, ["a", "b"]), expected(models, images, ["c", "b"]))
    tasks.remove("a")
    with pytest.raises(ConfigError, match=r"There is no task 'a'\. Loaded: b\."):
        tasks(images, ["a", "b"])
    with pytest.raises(ConfigError, match="There is no task 'a'"):
        tasks.remove("a")


def test_a_file_that_changed_behind_its_task_is_refused(
    three: tuple[nn.Module, dict[str, nn.Module], Path],
) -> None:
    backbone, _, folder = three
    tasks = MultiTask(copy.deepcopy(backbone), on_device=1, in_memory=1)
    tasks.load("a", folder / "a")
    tasks.load("b", folder / "b")
    (folder / "a").write_bytes((folder / "c").read_bytes())
    with pytest.raises(AdapterError, match="was replaced since its task was loaded"):
        tasks(images_for(backbone, 1), ["a"])


def test_replacing_and_predicting_at_once(three: tuple[nn.Module, dict[str, nn.Module], Path]) -> None:
    backbone, models, folder = three
    tasks = MultiTask(copy.deepcopy(backbone), on_device=2, in_memory=2)
    tasks.load("x", folder / "a")
    tasks.load("b", folder / "b")
    images = images_for(backbone, 2)
    wanted = {name: expected(models, images[:1], [name])[0] for name in "ac"}
    other = expected(models, images[1:], ["b"])[0]
    stop, problems = threading.Event(), []

    def replace() -> None:
        for name in itertools.cycle("ca"):
            if stop.is_set():
                return
            tasks.load("x", folder / name)

    def ask() -> None:
        for _ in range(40):
            first, second = tasks(images, ["x", "b"])
            is_known = any(f.shape == first.shape and relative(first, f) < CLOSE for f in wanted.values())
            if not is_known or relative(second, other) > CLOSE:
                problems.append((first, second))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    replacing = threading.Thread(target=replace)
    replacing.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    replacing.join()
    assert not problems


def test_a_loaded_task_stays_what_it_was(three: tuple[nn.Module, dict[str, nn.Module], Path]) -> None:
    backbone, models, folder = three
    tasks = MultiTask(copy.deepcopy(backbone), on_device=2, in_memory=1)
    tasks.load("x", folder / "a")
    before = tasks.loaded("x")
    tasks.load("x", folder / "b")
    images = images_for(backbone, 3)
    wanted = expected(models, images, ["a", "b", "a"])
    assert_close(tasks(images, [before, "x", before]), wanted)
    tasks.remove("x")
    (folder / "a").unlink()
    assert_close(tasks(images[:1], [before]), wanted[:1])
    assert len(before.info.classes) == len(wanted[0])
    assert tasks.num_in_memory == 0
    assert len(tasks.slots) == 0  # nothing would ever take a version without a name from the device
    with pytest.raises(ConfigError, match="There is no task 'x'"):
        tasks.loaded("x")


def test_a_task_that_left_memory_is_read_again(
    three: tuple[nn.Module, dict[str, nn.Module], Path],
) -> None:
    backbone, models, folder = three
    tasks = MultiTask(copy.deepcopy(backbone), in_memory=1)
    for name in "ab":
        tasks.load(name, folder / name)
    images = images_for(backbone, 1)
    assert_close(tasks(images, [tasks.loaded("a")]), expected(models, images, ["a"]))
    (folder / "b").unlink()
    with pytest.raises(AdapterError, match="Cannot read"):
        tasks.loaded("b")


def test_files_read_at_once_do_not_meet(tmp_path: Path) -> None:
    backbone = tiny_vit(torch.float32)
    models = {
        name: adapter(tmp_path / name, backbone, seed, num_visual=3, beside=beside)
        for seed, (name, beside) in enumerate([("own", "norm"), ("shared", "none")])
    }
    norm, reading = backbone.blocks[1].norm1, False  # type: ignore[index, union-attr]

    def load_another(*_: object) -> None:
        nonlocal reading
        if not reading:
            reading = True
            tasks.load("shared", tmp_path / "shared")

    tasks = MultiTask(backbone)
    tasks.load("own", tmp_path / "own")
    handle = norm.register_forward_hook(load_another)  # amid computing with the norm of the first task
    tasks.load("own", tmp_path / "own")
    handle.remove()
    assert reading
    images = images_for(backbone, 2)
    assert_close(tasks(images, ["own", "shared"]), expected(models, images, ["own", "shared"]))
    tasks.load("again", tmp_path / "shared")
    assert_close(tasks(images, ["own", "again"]), expected(models, images, ["own", "shared"]))


def test_the_same_numbers_with_another_meaning_are_another_task(
    three: tuple[nn.Module, dict[str, nn.Module], Path],
) -> None:
    backbone, models, folder = three
    header, tensors, _ = read_container(folder / "a")
    other = {"strided": "contiguous", "contiguous": "strided"}[header["layout"]]
    write_container(folder / "other", {**header, "layout": other}, tensors)
    tasks = MultiTask(copy.deepcopy(backbone))
    tasks.load("other", folder / "other")
    tasks.load("a", folder / "a")
    images = images_for(backbone, 1)
    found = tasks(images, ["a"])
    assert_close(found, expected(models, images, ["a"]))
    assert relative(tasks(images, ["other"])[0], found[0]) > 0.01
