"""Folded tables: what they hold, and that no write to anything they were built from goes unnoticed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, prompted, randomise, tiny_swin, tiny_vit
from torch import nn

from e2vpt.prompting.tables import FoldedTable, Table, build_table, can_fold, keys_values, project

pytestmark = pytest.mark.usefixtures("one_thread")

Change = Callable[[nn.Module], object]


def block(model: nn.Module) -> nn.Module:
    return model.blocks[1] if hasattr(model, "blocks") else model.layers[0].blocks[1]


def prompts(model: nn.Module) -> Any:
    return block(model).attn.prompts


@torch.no_grad()
def add(tensor: torch.Tensor) -> None:
    tensor.add_(0.5)


def reload(model: nn.Module, **options: Any) -> None:
    state = {name: tensor * 1.25 for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, **options)


def step(model: nn.Module) -> None:
    tuned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(tuned, lr=0.5)
    model(images_for(model)).square().sum().backward()
    optimizer.step()


def replace(module: nn.Module, name: str) -> None:
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(old.detach() + 0.5, requires_grad=False))


def new_norm(model: nn.Module) -> None:
    old = block(model).norm1
    new = nn.LayerNorm(old.normalized_shape, eps=old.eps, dtype=old.weight.dtype)
    block(model).norm1 = randomise(new, seed=9).requires_grad_(False)


def new_qkv(model: nn.Module) -> None:
    old = block(model).attn.qkv
    new = nn.Linear(old.in_features, old.out_features, dtype=old.weight.dtype)
    block(model).attn.qkv = randomise(new, seed=9).requires_grad_(False)


def set_data(tensor: torch.Tensor) -> None:
    tensor.data = tensor.data + 0.5


def through_inference(tensor: torch.Tensor) -> None:
    with torch.inference_mode():
        tensor.add_(0.5)


def through_numpy(tensor: torch.Tensor) -> None:
    array = tensor.detach().numpy()
    array += 0.5


TENSORS: dict[str, Callable[[nn.Module], torch.Tensor]] = {
    "visual": lambda m: prompts(m).visual,
    "key": lambda m: prompts(m).key,
    "value": lambda m: prompts(m).value,
    "keep": lambda m: prompts(m).keep,
    "norm1.weight": lambda m: block(m).norm1.weight,
    "norm1.bias": lambda m: block(m).norm1.bias,
    "qkv.weight": lambda m: block(m).attn.qkv.weight,
    "qkv.bias": lambda m: block(m).attn.qkv.bias,
}
WRITES: dict[str, Callable[[torch.Tensor], object]] = {
    "in place": add,
    ".data.mul_": lambda t: t.data.mul_(1.5),
    ".data =": set_data,
    ".detach()": lambda t: t.detach().mul_(1.5),
    "inference": through_inference,
    "numpy": through_numpy,
    "last element": lambda t: t.data.view(-1)[-1:].add_(1.0),
    "one element": lambda t: t.data.view(-1)[t.numel() * 5 // 7].add_(1.0),
}
CHANGES: dict[str, Change] = {
    f"{name}: {how}": (lambda m, get=get, write=write: write(get(m)))
    for name, get in TENSORS.items()
    for how, write in WRITES.items()
}
CHANGES |= {
    "optimizer step": step,
    "load_state_dict": reload,
    "load_state_dict assign": lambda m: reload(m, assign=True),
    "visual replaced": lambda m: replace(prompts(m), "visual"),
    "key replaced": lambda m: replace(prompts(m), "key"),
    "qkv.weight replaced": lambda m: replace(block(m).attn.qkv, "weight"),
    "norm1.weight replaced": lambda m: replace(block(m).norm1, "weight"),
    "norm1 replaced": new_norm,
    "qkv replaced": new_qkv,
    "swapped tensors": lambda m: torch.utils.swap_tensors(
        prompts(m).visual, nn.Parameter(prompts(m).visual.detach() + 1)
    ),
    "keep replaced": lambda m: setattr(prompts(m), "keep", 1 - prompts(m).keep),
    "kept rows swapped": lambda m: prompts(m).keep.data.copy_(prompts(m).keep.data.flip(1)),
    "visual pruned": lambda m: (replace(prompts(m), "visual"), drop_a_row(prompts(m))),
    "float and back": lambda m: m.bfloat16().double(),
    "enabled": lambda m: setattr(prompts(m), "enabled", False),
    "kv unset": lambda m: (setattr(prompts(m), "key", None), setattr(prompts(m), "value", None)),
}


def drop_a_row(layer: nn.Module) -> None:
    layer.visual = nn.Parameter(layer.visual.detach()[:-1])
    layer.keep = layer.keep[:-1]


@pytest.fixture(scope="module", params=["vit", "vit-qk-norm", "swin"])
def fresh_model(request: pytest.FixtureRequest) -> nn.Module:
    make = {"vit": tiny_vit, "vit-qk-norm": lambda: tiny_vit(qk_norm=True), "swin": tiny_swin}
    return prompted(make[request.param](), num_visual=4, num_kv=2, share_kv=False)


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_goes_unnoticed(fresh_model: nn.Module, change: str) -> None:
    model, images = copy.deepcopy(fresh_model), images_for(fresh_model, batch=1)
    with torch.no_grad():
        before = model(images)
        assert block(model).attn.tables.folded._stored is not None
    CHANGES[change](model)
    with torch.no_grad():
        after = model(images)
        expected = copy.deepcopy(model)(images)
    assert torch.equal(after, expected)
    if not change.startswith("visual: ") or "element" not in change:  # a masked element moves nothing
        assert not torch.equal(after, before)


def test_key_norm_changes_are_seen() -> None:
    model = prompted(tiny_vit(qk_norm=True), num_visual=4, num_kv=2)
    images = images_for(model, batch=1)
    with torch.no_grad():
        model(images)
        model.blocks[1].attn.k_norm.weight.data.mul_(2)
        assert torch.equal(model(images), copy.deepcopy(model)(images))


WIDE_WRITES: dict[str, Callable[[torch.Tensor], object]] = {
    "one column": lambda t: t.data[:, 1].zero_(),
    "odd columns": lambda t: t.data[:, 1::2].zero_(),
    "one row": lambda t: t.data[-2].zero_(),
    "one element": lambda t: t.data[-1, 1].add_(1),
    "two columns swapped": lambda t: t.data.copy_(t.data[:, [1, 0, *range(2, t.shape[1])]]),
    "two rows swapped": lambda t: t.data.copy_(t.data[[*range(t.shape[0] - 2), -1, -2]]),
    "pairs of columns swapped": lambda t: t.data.copy_(t.data[:, [2, 3, 0, 1, *range(4, t.shape[1])]]),
    "sign": lambda t: t.data[-1, 1].neg_(),
}


@pytest.fixture(scope="module")
def wide_model() -> nn.Module:
    """Wider than any sample of elements: a write must be seen wherever it falls."""
    backbone = tiny_vit(torch.float32, embed_dim=192, num_heads=3, depth=2)
    return prompted(backbone, num_visual=200, num_kv=2)


@pytest.mark.parametrize("name", ["visual", "keep", "qkv.weight"])
@pytest.mark.parametrize("write", WIDE_WRITES)
def test_no_write_to_a_large_tensor_goes_unnoticed(wide_model: nn.Module, write: str, name: str) -> None:
    model, images = copy.deepcopy(wide_model), images_for(wide_model, batch=1)
    with torch.no_grad():
        model(images)
        WIDE_WRITES[write](TENSORS[name](model))
        after = model(images)
        assert torch.equal(after, copy.deepcopy(model)(images))


def test_autocast_is_part_of_the_proof() -> None:
    model = prompted(tiny_vit(torch.float32), num_visual=4, num_kv=2)
    images = images_for(model, batch=1)

    def half(m: nn.Module) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return m(images)

    with torch.no_grad():
        plain, cast = model(images), half(model)
        assert not torch.equal(plain, cast.float())
        for _ in range(2):
            assert torch.equal(model(images), plain)
            assert torch.equal(half(model), cast)
        assert torch.equal(half(copy.deepcopy(model)), cast)


def test_switching_between_inference_no_grad_and_grad() -> None:
    model = prompted(tiny_vit(), num_visual=4, num_kv=2)
    images = images_for(model, batch=1)
    with torch.inference_mode():
        expected = model(images).clone()
    with torch.no_grad():
        assert torch.equal(model(images), expected)
    model(images).sum().backward()
    with torch.inference_mode():
        assert torch.equal(model(images), expected)
    assert torch.equal(model.train()(images), expected)


def test_other_dtypes_of_the_same_model() -> None:
    model = prompted(tiny_vit(torch.float32), num_visual=4, num_kv=2)
    with torch.no_grad():
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
            model.to(dtype)
            images = images_for(model, batch=1)
            assert torch.equal(model(images), copy.deepcopy(model)(images))


def test_a_fresh_table_is_used_again() -> None:
    model = prompted(tiny_vit(), num_visual=4, num_kv=2)
    images, norm_calls = images_for(model, batch=1), []
    model.blocks[1].norm1.register_forward_hook(lambda *_: norm_calls.append(1))
    with torch.no_grad():
        model(images)
        assert len(norm_calls) == 2  # the image tokens, and the prompts
        model(images)
        model.eval()(images)
    assert len(norm_calls) == 4


@pytest.mark.parametrize("mode", ["train", "grad"])
def test_nothing_is_stored_while_training_or_with_gradients(mode: str) -> None:
    model = prompted(tiny_vit(), num_visual=4, num_kv=2).train(mode == "train")
    with torch.set_grad_enabled(mode == "grad"):
        model(images_for(model))
    assert all(b.attn.tables.folded._stored is None for b in model.blocks)


def test_copies_and_pickles_start_empty() -> None:
    model = prompted(tiny_vit(), num_visual=4, num_kv=2)
    with torch.no_grad():
        model(images_for(model))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(b.attn.tables.folded._stored is None for b in other.blocks)
        assert all(
            b.attn.tables.folded is not m.attn.tables.folded
            for b, m in zip(other.blocks, model.blocks, strict=True)
        )


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64]
)
def test_every_dtype_and_layout_can_be_proven_fresh(dtype: torch.dtype) -> None:
    sources = [torch.ones(3, 5).to(dtype), torch.ones(5, 3).to(dtype).t(), torch.ones(()).to(dtype)]
    store, table, calls = FoldedTable(), Table(torch.zeros(1), torch.zeros(1)), []

    def build() -> Table:
        calls.append(1)
        return table

    for source in sources:
        store.get(sources, build)
        store.get(sources, build)
        source.data.zero_()
    store.get(sources, build)
    assert len(calls) == 4


def test_none_is_not_stored() -> None:
    store, source = FoldedTable(), torch.zeros(1)
    calls: list[int] = []
    for _ in range(2):
        assert store.get([source], lambda: calls.append(1)) is None
    assert calls == [1, 1]


def test_windows_repeat_each_images_table() -> None:
    table = Table(torch.arange(2.0).view(2, 1, 1, 1), torch.arange(2.0).view(2, 1, 1, 1) + 10)
    assert table.for_windows(1) is table
    assert table.for_windows(3).k.flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert table.for_windows(3).v.flatten().tolist() == [10, 10, 10, 11, 11, 11]
    shared = Table(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    assert shared.for_windows(3) is shared


@pytest.mark.parametrize("bias", [True, False])
def test_parts_of_a_projection_are_the_projection(bias: bool) -> None:
    linear, x = nn.Linear(6, 12, bias=bias).double(), torch.randn(2, 5, 6).double()
    whole = linear(x)
    assert torch.allclose(torch.cat([project(linear, x, 0, 4), project(linear, x, 4, 12)], -1), whole)
    k, v = keys_values(linear, nn.Identity(), x, 2)
    assert torch.allclose(k, whole[..., 4:8].unflatten(-1, (2, 2)).transpose(1, 2))
    assert torch.allclose(v, whole[..., 8:].unflatten(-1, (2, 2)).transpose(1, 2))


def test_a_table_holds_visual_then_key_value_prompts() -> None:
    layer = prompts(prompted(tiny_vit(), num_visual=4, num_kv=2))
    qkv, norm = nn.Linear(48, 144).double(), nn.LayerNorm(48).double()
    table = build_table(layer.key_value(1), layer.masked_visual(1), norm, qkv, nn.Identity(), 3)
    assert table is not None and table.k.shape == table.v.shape == (3, 6, 16)
    assert torch.equal(table.k[:, 4:], layer.key) and torch.equal(table.v[:, 4:], layer.value)
    assert build_table(None, None, norm, qkv, nn.Identity(), 3) is None


def test_a_masked_token_is_its_layer_norm_bias() -> None:
    """reference.md section 2: LN(0) = beta still makes a live key."""
    layer = prompts(prompted(tiny_vit(), num_visual=1, num_kv=0))
    layer.keep.zero_()
    qkv = nn.Linear(48, 144).double()
    norm = randomise(nn.LayerNorm(48)).double()
    table = build_table(layer.key_value(1), layer.masked_visual(1), norm, qkv, nn.Identity(), 3)
    assert table is not None
    assert torch.allclose(table.k.flatten(), qkv(norm.bias)[48:96])


def test_folding_is_for_the_cpu_without_gradients() -> None:
    x = torch.zeros(1)
    assert not can_fold(x)
    with torch.no_grad():
        assert can_fold(x)
        assert not can_fold(torch.zeros(1, device="meta"))
