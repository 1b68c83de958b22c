"""A batch of many tasks gives every image what its own task alone gives it."""

from __future__ import annotations

import copy
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
)
from support.multitask_for_tests import CLOSE, adapter, assert_close, expected, loaded
from torch import Tensor, nn

from e2vpt import MultiTask
from e2vpt.adapters.matching import pooling

pytestmark = pytest.mark.usefixtures("one_thread")

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


def test_half_precision_follows_the_backbone(three: tuple[nn.Module, dict[str, nn.Module], Path]) -> None:
    backbone, models, folder = three
    tasks = loaded(backbone, folder)
    tasks.to(torch.bfloat16)
    found = tasks(images_for(backbone, 3), list("abc"))
    wanted = expected(models, images_for(backbone, 3), list("abc"))
    assert {f.dtype for f in found} == {torch.bfloat16}
    assert max(relative(f.float(), w) for f, w in zip(found, wanted, strict=True)) < 0.1
    assert pooling(backbone) == "token"
