"""A batch of many tasks gives every image what its own task alone gives it."""

from __future__ import annotations

import copy
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.backbones_for_tests import (
    GROUPED,
    images_for,
    named_backbone,
    relative,
    tiny_beit,
    tiny_eva,
    tiny_swin,
    tiny_swin_v2,
    tiny_vit,
    tuned,
)
from torch import Tensor, nn

import e2vpt
from e2vpt import MethodConfig, MultiTask, PromptConfig
from e2vpt.adapters.matching import pooling
from e2vpt.errors import AdapterError, AdapterFormatError, BackboneMismatch, ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE = 1e-5
BACKBONES = {
    "vit": lambda: tiny_vit(torch.float32),
    "swin": lambda: tiny_swin(torch.float32),
    "gap": lambda: named_backbone("registers-gap", torch.float32),
    "map": lambda: named_backbone("siglip-map", torch.float32),
    "qk-norm": lambda: named_backbone("qk-norm", torch.float32),
    "eva": lambda: tiny_eva(torch.float32),
    "eva-token": lambda: tiny_eva(torch.float32, global_pool="token", num_reg_tokens=2),
    "beit": lambda: tiny_beit(torch.float32),
    "swin-v2": lambda: tiny_swin_v2(torch.float32),
    "eva-grouped": lambda: tiny_eva(torch.float32, **GROUPED),
    "post-norm": lambda: named_backbone("eva02-post-norm", torch.float32),
}
DRAWN = ["vit", "swin", "swin-v2", "beit", "eva", "eva-grouped"]
METHODS = ["e2vpt", "vpt-deep", "kv", "bias", "layernorm", "linear"]


def adapter(
    path: Path, backbone: nn.Module, seed: int, method: str = "e2vpt", beside: str = "auto", **prompts: Any
) -> nn.Module:
    """An adapter file of a task with random values; the model it was saved from."""
    torch.manual_seed(seed)
    model = copy.deepcopy(backbone)
    model.reset_classifier(2 + seed % 5)  # type: ignore[operator]
    e2vpt.adapt(model, method, PromptConfig(**prompts), MethodConfig(beside=beside))
    with torch.no_grad():
        for parameter in tuned(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        for layer in model.modules():
            keep = getattr(layer, "keep", None)
            if isinstance(keep, Tensor):
                keep[:, seed % 3 :: 4] = 0
    e2vpt.save_adapter(model, path, preprocessing=_preprocessing(model))
    return model.eval()


def _preprocessing(model: nn.Module) -> e2vpt.Preprocessing:
    size = tuple(model.patch_embed.img_size)  # type: ignore[union-attr, arg-type]
    return e2vpt.Preprocessing(image_size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # type: ignore[arg-type]


def expected(models: dict[str, nn.Module], images: Tensor, names: list[str]) -> list[Tensor]:
    """Every image through its own model, alone."""
    with torch.no_grad():
        return [models[name](image[None])[0] for image, name in zip(images, names, strict=True)]


def assert_close(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert [f.shape for f in found] == [w.shape for w in wanted]
    assert max(relative(f, w) for f, w in zip(found, wanted, strict=True)) < CLOSE


@pytest.fixture(params=list(BACKBONES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


KINDS_OF_TASK: list[dict[str, Any]] = [
    {"num_visual": 4, "num_kv": 2},
    {"num_visual": 1, "num_kv": 3, "beside": "none"},
    {"num_visual": 3, "num_kv": 0, "beside": "scale"},
    {"num_visual": 0, "num_kv": 2, "share_kv": False, "beside": "gamma"},
    {"method": "bias"},
    {"method": "layernorm"},
    {"method": "linear"},
    {"method": "bias", "beside": "scale"},
    {"method": "vpt-deep", "num_visual": 2},
]


def test_a_mixed_batch_equals_separate_runs(kind: str, tmp_path: Path) -> None:
    backbone = BACKBONES[kind]()
    models = {
        str(i): adapter(tmp_path / f"{i}", backbone, i, **options) for i, options in enumerate(KINDS_OF_TASK)
    }
    tasks = MultiTask(copy.deepcopy(backbone))
    for name in models:
        tasks.load(name, tmp_path / name)
    names = [*models, "3", "0"]
    images = images_for(backbone, len(names))
    assert_close(tasks(images, names), expected(models, images, names))
    # One task alone, one image alone, and in another order.
    assert_close(tasks(images, ["2"] * len(names)), expected(models, images, ["2"] * len(names)))
    assert_close(tasks(images[:1], ["4"]), expected(models, images[:1], ["4"]))
    assert_close(tasks(images, names[::-1]), expected(models, images, names[::-1]))


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tasks_in_any_order(tmp_path: Path, data: st.DataObject) -> None:
    backbone = BACKBONES[
        data.draw(st.sampled_from(["vit", "swin", "swin-v2", "beit", "eva", "eva-grouped"]))
    ]()
    tasks, models = MultiTask(copy.deepcopy(backbone)), {}
    for i in range(data.draw(st.integers(1, 4))):
        method = data.draw(st.sampled_from(METHODS))
        beside = data.draw(st.sampled_from(["auto", "none", "bias", "norm", "gamma", "scale"]))
        counts = {"num_visual": data.draw(st.integers(0, 4)), "num_kv": data.draw(st.integers(0, 3))}
        share = data.draw(st.booleans())
        path = tmp_path / f"{i}"
        models[str(i)] = adapter(path, backbone, i, method, beside, share_kv=share, **counts)
        tasks.load(str(i), path)
    names = data.draw(st.lists(st.sampled_from(list(models)), min_size=1, max_size=6))
    images = images_for(backbone, len(names))
    assert_close(tasks(images, names), expected(models, images, names))


def test_the_empty_name_is_the_backbone_alone(kind: str, tmp_path: Path) -> None:
    backbone = BACKBONES[kind]()
    model = adapter(tmp_path / "a", backbone, 0)
    tasks = MultiTask(copy.deepcopy(backbone))
    images = images_for(backbone, 3)
    with torch.no_grad():
        alone = backbone.forward_head(backbone.forward_features(images), pre_logits=True)  # type: ignore[operator]
        adapted = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    assert relative(tasks.embed(images, ["", "", ""]), alone) < CLOSE
    tasks.load("a", tmp_path / "a")
    found = tasks(images, ["", "a", ""])
    assert_close(found[::2], list(alone[::2]))
    assert_close(found[1:2], expected({"a": model}, images[1:2], ["a"]))
    assert relative(tasks.embed(images, ["a", "", "a"])[::2], adapted[::2]) < CLOSE


@pytest.fixture
def three(tmp_path: Path) -> tuple[nn.Module, dict[str, nn.Module], Path]:
    backbone = tiny_vit(torch.float32)
    options = [{"num_visual": 2}, {"num_visual": 5, "beside": "scale"}, {"method": "bias"}]
    models = {name: adapter(tmp_path / name, backbone, i, **options[i]) for i, name in enumerate("abc")}
    return backbone, models, tmp_path


def loaded(backbone: nn.Module, folder: Path, **limits: int) -> MultiTask:
    """All three tasks on a copy of their backbone."""
    tasks = MultiTask(copy.deepcopy(backbone), **limits)
    for name in "abc":
        tasks.load(name, folder / name)
    return tasks


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


def test_images_of_one_task_share_its_head(
    three: tuple[nn.Module, dict[str, nn.Module], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, models, folder = three
    tasks, widths, real = loaded(backbone, folder), [], torch.addmm

    def addmm(bias: Tensor, *rest: Tensor) -> Tensor:
        widths.append(len(bias))
        return real(bias, *rest)

    monkeypatch.setattr("e2vpt.multitask.tasks.torch.addmm", addmm)
    for names in (list("aaaaa"), list("abaab")):
        images = images_for(backbone, 5)
        assert_close(tasks(images, names), expected(models, images, names))
        assert widths.pop() == sum(len(tasks.info(name).classes) for name in set(names))


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


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"method": "full"}, "it tunes .* which all tasks share"),
        ({"method": "adapter"}, "it tunes .* which all tasks share"),
        ({"method": "partial"}, "it tunes .* which all tasks share"),
        ({"method": "vpt-shallow"}, "its prompts travel"),
        ({"attention": "gated"}, "a softmax of their own"),
    ],
)
def test_what_cannot_differ_by_row_is_refused_by_name(
    tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    backbone = tiny_vit(torch.float32)
    adapter(tmp_path / "a", backbone, 0, **options)
    tasks = MultiTask(backbone)
    with pytest.raises(BackboneMismatch, match=rf"method {options.get('method', 'e2vpt')} cannot .* {why}"):
        tasks.load("a", tmp_path / "a")
    assert tasks.names == ()


def test_files_of_other_backbones_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "a", tiny_vit(torch.float32), 0)
    other = tiny_vit(torch.float32)
    with torch.no_grad():
        other.blocks[0].mlp.fc1.weight.add_(0.1)
    tasks = MultiTask(other)
    with pytest.raises(BackboneMismatch, match="other weights"):
        tasks.load("a", tmp_path / "a")
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[:-3])
    with pytest.raises(AdapterFormatError):
        tasks.load("b", tmp_path / "b")
    with pytest.raises(BackboneMismatch, match="blocks"):
        MultiTask(tiny_swin(torch.float32)).load("a", tmp_path / "a")


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb"])
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    backbone = tiny_vit(torch.float32)
    adapter(tmp_path / "a", backbone, 0)
    with pytest.raises(ConfigError, match="A task's name is"):
        MultiTask(backbone).load(name, tmp_path / "a")


@pytest.mark.parametrize(
    ("shape", "names"),
    [((2, 3, 32, 32), ["a"]), ((3, 32, 32), ["a"] * 3), ((1, 3, 32, 32), []), ((0, 3, 32, 32), [])],
)
def test_images_and_names_have_to_match(shape: tuple[int, ...], names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"images have shape .* a name for each of the B images"):
        MultiTask(tiny_vit(torch.float32))(torch.zeros(shape), names)


def test_a_prompted_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match="has prompts already"):
        MultiTask(e2vpt.prompt(tiny_vit(torch.float32)))


def test_half_precision_follows_the_backbone(three: tuple[nn.Module, dict[str, nn.Module], Path]) -> None:
    backbone, models, folder = three
    tasks = loaded(backbone, folder)
    tasks.to(torch.bfloat16)
    found = tasks(images_for(backbone, 3), list("abc"))
    wanted = expected(models, images_for(backbone, 3), list("abc"))
    assert {f.dtype for f in found} == {torch.bfloat16}
    assert max(relative(f.float(), w) for f, w in zip(found, wanted, strict=True)) < 0.1
    assert pooling(backbone) == "token"
