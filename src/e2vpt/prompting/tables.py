"""A block's prompts as extra keys and values, and the proof that a stored copy of them is fresh.

In deep prompting the outputs of the prompt rows are thrown away after each block, so all that is left of
them is `K_p, V_p = kv(LN1(P))`, which needs no batch dimension. Key-value prompts join as they are.

Shapes: B images, p visual prompts, m key-value prompts, D model width, H heads, d head width, t = p + m,
A = H·d.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Table(NamedTuple):
    """Extra keys and values of one block, each [H, t, d], or [B, H, t, d] when every image has its own."""

    k: Tensor
    v: Tensor

    def for_windows(self, num_windows: int) -> Table:
        """The table of every window, where each image is cut into `num_windows` (image-major)."""
        if self.k.dim() == 3 or num_windows == 1:
            return self
        return Table(self.k.repeat_interleave(num_windows, 0), self.v.repeat_interleave(num_windows, 0))


def project(linear: nn.Linear, x: Tensor, start: int, stop: int) -> Tensor:
    """Rows `start:stop` of a linear layer applied to x [..., D] -> [..., stop - start].

    Queries and keys-values are projected apart, from slices of the same weight: a fused projection would
    keep the whole qkv buffer alive for the backward pass (performance.md section 6).
    """
    bias = None if linear.bias is None else linear.bias[start:stop]
    return F.linear(x, linear.weight[start:stop], bias)


def queries(qkv: nn.Linear, x: Tensor, num_heads: int) -> Tensor:
    """Queries [B, H, N, d] of tokens x [B, N, D], before any query norm."""
    return torch.unflatten(project(qkv, x, 0, qkv.out_features // 3), -1, (num_heads, -1)).transpose(1, 2)


def keys_values(qkv: nn.Linear, k_norm: nn.Module, x: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    """Keys and values [..., H, N, d] of tokens x [..., N, D], through the frozen projection and key norm."""
    width = qkv.out_features // 3
    kv = torch.unflatten(project(qkv, x, width, 3 * width), -1, (2, num_heads, -1))
    k, v = (part.transpose(-3, -2) for part in kv.unbind(-3))
    return k_norm(k), v


def build_table(
    key_value: tuple[Tensor, Tensor] | None,
    visual: Tensor | None,
    norm: nn.Module,
    qkv: nn.Linear,
    k_norm: nn.Module,
    num_heads: int,
) -> Table | None:
    """The table of visual prompts ([p, D] or [B, p, D], masked already) and key-value prompts, if any."""
    parts: list[tuple[Tensor, Tensor]] = []
    if visual is not None:
        # Prompts may be held in higher precision than the frozen norm they pass through.
        held = next(norm.parameters(), qkv.weight).dtype
        parts.append(keys_values(qkv, k_norm, norm(visual.to(held)), num_heads))
    if key_value is not None:
        parts.append(key_value)
    if not parts:
        return None
    if len(parts) == 1:
        return Table(*parts[0])
    (visual_k, visual_v), (key, value) = parts
    shape = visual_k.shape[:-2] + key.shape[-2:]
    key, value = key.to(visual_k.dtype).expand(shape), value.to(visual_v.dtype).expand(shape)
    return Table(torch.cat([visual_k, key], dim=-2), torch.cat([visual_v, value], dim=-2))


def key_value_rows(qkv: nn.Linear) -> list[Tensor]:
    """What of a fused projection a table depends on: weight [2A, D] and bias [2A] of keys and values."""
    width = qkv.out_features // 3
    return [part[width:] for part in (qkv.weight, qkv.bias) if part is not None]


_SAMPLES = 16384
"""Elements of a tensor compared one by one: all of a small tensor, an even sample of a large one."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Stored(NamedTuple):
    table: Table
    sources: list[Tensor]
    versions: list[int | None]
    values: list[tuple[Tensor, Tensor]]
    autocast: tuple[bool, torch.dtype]


class FoldedTable:
    """A table stored between forward passes of a frozen model, used again only while proven fresh.

    Fresh means: every source is the same memory (the store holds a reference, so that memory cannot have
    been given to another tensor meanwhile), at the same autograd version, and equal by value. The value
    check sees writes through `.data`, which no version counter sees. It reads every element, which costs
    less than half of what it saves with 5 visual prompts (ViT-B, CPU). Copies and pickles of a model start
    with an empty store.
    """

    def __init__(self) -> None:
        self._stored: _Stored | None = None

    def __reduce__(self) -> tuple[type[FoldedTable], tuple[()]]:
        return type(self), ()

    def get(self, sources: Sequence[Tensor], build: Callable[[], Table | None]) -> Table | None:
        """The stored table, or a new one from `build`, a function of `sources` only."""
        stored = self._stored
        if stored is not None and _is_fresh(stored, sources):
            return stored.table
        self._stored = None
        table = build()
        if table is not None:
            aliases = [source.detach() for source in sources]
            values = [(_row_sums(source), _sample(source).clone()) for source in sources]
            self._stored = _Stored(
                table, aliases, list(map(_version, sources)), values, _autocast(sources[0])
            )
        return table


def can_fold(x: Tensor) -> bool:
    """Whether a table may be stored for input x: only where the proof of freshness is cheaper than the table.

    On a GPU reading values back would stall the stream for longer than the two small kernels take.
    """
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


def _is_fresh(stored: _Stored, sources: Sequence[Tensor]) -> bool:
    if len(stored.sources) != len(sources) or stored.autocast != _autocast(sources[0]):
        return False
    return all(
        _same_memory(source, alias)
        and _version(source) == version
        and torch.equal(_sample(source), sample)
        and torch.equal(_row_sums(source), sums)
        for source, alias, version, (sums, sample) in zip(
            sources, stored.sources, stored.versions, stored.values, strict=True
        )
    )


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return (
        a.data_ptr() == b.data_ptr()
        and a.shape == b.shape
        and a.stride() == b.stride()
        and a.dtype == b.dtype
    )


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _sample(tensor: Tensor) -> Tensor:
    step = max(1, tensor.numel() // _SAMPLES)
    # A step that shares a factor with the row length would visit some columns only.
    while math.gcd(step, *tensor.shape[-1:]) > 1:
        step -= 1
    return tensor.detach().reshape(-1)[::step]


def _row_sums(tensor: Tensor) -> Tensor:
    """Every row's bits, summed as integers that wrap: no change of one element leaves its row's sum alone.

    Values that trade places inside a row do; the sample, which visits all columns, is for those.
    """
    bits = _BITS[tensor.element_size()]
    return tensor.detach().contiguous().view(bits).sum(-1, dtype=bits)


def _autocast(tensor: Tensor) -> tuple[bool, torch.dtype]:
    kind = tensor.device.type
    return torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
