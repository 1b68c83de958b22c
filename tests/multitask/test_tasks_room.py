"""How many tasks lie on the device and in memory, and who makes room for whom."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
from support.backbones_for_tests import images_for, tiny_vit
from support.multitask_for_tests import adapter, assert_close, expected, loaded
from torch import nn

from e2vpt import MultiTask
from e2vpt.errors import AdapterError, ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("limits", [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_the_least_recently_used_make_room(
    three: tuple[nn.Module, dict[str, nn.Module], Path], limits: tuple[int, int]
) -> None:
    backbone, models, folder = three
    on_device, in_memory = limits
    tasks = loaded(backbone, folder, on_device=on_device, in_memory=in_memory)
    images = images_for(backbone, 2)
    for names in itertools.product("abc", repeat=2):
        if len(set(names)) <= on_device:
            assert_close(tasks(images, names), expected(models, images, list(names)))
    assert len(tasks.slots) <= on_device + 1
    assert (tasks.slots.evictions > 0) is (on_device < 3)


def test_more_tasks_than_fit_on_the_device_are_refused(
    three: tuple[nn.Module, dict[str, nn.Module], Path],
) -> None:
    backbone, _, folder = three
    tasks = loaded(backbone, folder, on_device=1)
    with pytest.raises(ConfigError, match="3 tasks in one batch; on_device lets 1 be"):
        tasks(images_for(backbone, 3), list("abc"))


def test_bytes_on_the_device_are_bounded(three: tuple[nn.Module, dict[str, nn.Module], Path]) -> None:
    backbone, models, folder = three
    images = images_for(backbone, 3)
    free = MultiTask(copy.deepcopy(backbone))
    for name in "abc":
        free.load(name, folder / name)
    free(images, list("abc"))
    row = 4 * free.slots.layout.size
    tasks = MultiTask(copy.deepcopy(backbone), device_bytes=3 * row)
    for name in "abc":
        tasks.load(name, folder / name)
    for names in itertools.product("abc", repeat=2):
        assert_close(tasks(images[:2], names), expected(models, images[:2], list(names)))
        assert tasks.slots.num_bytes - _bytes_of_heads(models, names) <= 3 * row + 4 * 49 * 20
    assert tasks.slots.evictions > 0
    with pytest.raises(ConfigError, match="3 tasks in one batch; device_bytes lets 2 be"):
        tasks(images, list("abc"))
    # A batch that needs no long rows gets more of them.
    assert_close(tasks(images, list("ccc")), expected(models, images, list("ccc")))
    small = MultiTask(copy.deepcopy(backbone), device_bytes=row // 4)
    with pytest.raises(ConfigError, match="more than device_bytes has room for"):
        small.load("b", folder / "b")
    assert small.names == ()


def _bytes_of_heads(models: dict[str, nn.Module], names: tuple[str, ...]) -> int:
    return sum(4 * p.numel() for name in set(names) for p in models[name].head.parameters())  # type: ignore[union-attr]


def test_preloading_takes_as_many_as_have_room(
    three: tuple[nn.Module, dict[str, nn.Module], Path],
) -> None:
    backbone, models, folder = three
    tasks = loaded(backbone, folder)
    tasks.preload()
    assert len(tasks.slots) == 3
    row = 4 * tasks.slots.layout.size
    tasks = loaded(backbone, folder, device_bytes=3 * row)
    tasks.preload()
    assert len(tasks.slots) == 2 and tasks.slots.evictions == 0
    assert_close(tasks(images_for(backbone, 1), ["c"]), expected(models, images_for(backbone, 1), ["c"]))


def test_a_long_task_gives_its_room_back(tmp_path: Path) -> None:
    backbone = tiny_vit(torch.float32)
    models = {str(i): adapter(tmp_path / f"{i}", backbone, i, "kv", num_kv=2) for i in range(5)}
    models["long"] = adapter(tmp_path / "long", backbone, 9, "kv", num_kv=20)
    free = MultiTask(copy.deepcopy(backbone))
    free.load("0", tmp_path / "0")
    free(images_for(backbone, 1), ["0"])
    tasks = MultiTask(copy.deepcopy(backbone), device_bytes=4 * free.slots.layout.size * 25)
    for name in models:
        tasks.load(name, tmp_path / name)
    images = images_for(backbone, 5)
    for names in (list("01234"), ["long"], list("01234"), ["long"], list("43210")):
        some = images[: len(names)]
        assert_close(tasks(some, names), expected(models, some, names))
    assert len(tasks.slots) == 5
    with pytest.raises(ConfigError, match="2 tasks in one batch; device_bytes lets 1 be"):
        tasks(images[:2], ["4", "long"])
    assert_close(tasks(images[:1], ["long"]), expected(models, images[:1], ["long"]))


def test_a_task_that_was_used_stays_in_memory(
    three: tuple[nn.Module, dict[str, nn.Module], Path],
) -> None:
    backbone, models, folder = three
    tasks = MultiTask(copy.deepcopy(backbone), in_memory=2)
    for name in "ab":
        tasks.load(name, folder / name)
    tasks.loaded("a")
    tasks.load("c", folder / "c")
    for name in "abc":
        (folder / name).unlink()
    images = images_for(backbone, 2)
    for name in "ac":
        assert_close(tasks(images[:1], [tasks.loaded(name)]), expected(models, images[:1], [name]))
    with pytest.raises(AdapterError, match="Cannot read"):
        tasks.loaded("b")
