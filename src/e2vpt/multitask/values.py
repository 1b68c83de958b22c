"""What one task brings to a shared backbone: its tables, biases, scales, norms and head, of an adapter file.

Shapes: p visual prompts, t rows of a table, H heads, d head width, D model width, C classes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.adapters.fitting import Fitting
from e2vpt.adapters.info import AdapterInfo
from e2vpt.adapters.packing import unpack
from e2vpt.errors import BackboneMismatch
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.sites import Site
from e2vpt.prompting.tables import Projection, build_table
from e2vpt.prompting.token_path import biases_beside, entry_norm, norm_of_keys
from e2vpt.prompting.tuned_linear import scaled_linear

TABLE_OF = "table."
"""A block's table [t, 2, H, d] is called this and the block's number; all else as in the model."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TaskValues:
    """What one task brings, on the CPU.

    Attributes:
        digest: of everything in the file that a prediction depends on.
        by_name: tables by block, and what is tuned beside them by the parameter's name.
        head: weight [C, D] and bias [C].
    """

    digest: str
    by_name: Mapping[str, Tensor]
    head: tuple[Tensor, Tensor]


NOTHING = TaskValues(digest="", by_name={}, head=(torch.zeros(0, 0), torch.zeros(0)))
"""The backbone alone, whose feature is the answer."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Host:
    """What is known of the shared backbone as it was made.

    Attributes:
        adapters: reads those that fit it.
        blocks: what makes keys and values in each block.
        tunable: names of the parameters that may differ by row.
    """

    adapters: Fitting
    blocks: Sequence[HostBlock]
    tunable: Collection[str]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HostBlock:
    """What turns tokens [..., D] into keys and values in one block, as timm made it.

    Attributes:
        site: the block as it was found.
        norm, k_norm: its modules; `k_norm` None where there is none.
        projections: to keys and values, the fused one or two.
    """

    site: Site
    norm: nn.Module
    projections: Mapping[str, nn.Linear]
    k_norm: nn.Module | None

    @classmethod
    def of(cls, site: Site) -> HostBlock:
        """Of a site whose block nothing was put into yet."""
        attention: Any = site.attention
        names = ("k_proj", "v_proj") if attention.qkv is None else ("qkv",)
        return cls(
            site=site,
            norm=entry_norm(site.block),
            projections={name: getattr(attention, name) for name in names},
            k_norm=norm_of_keys(attention),
        )

    @property
    def path(self) -> str:
        """The name of its attention."""
        return f"{self.site.path}.attn"


@torch.no_grad()
def read_values(path: str | Path, host: Host) -> tuple[AdapterInfo, TaskValues]:
    """What the adapter in a file says, and what it brings to the backbone.

    Raises:
        AdapterFormatError: truncated, altered, hostile, or of a newer format.
        BackboneMismatch: made for another backbone, or by a method that changes what all tasks share.
    """
    info, tensors = host.adapters.read(path)
    tuned = {name[6:]: tensor.float() for name, tensor in tensors.items() if name.startswith("tuned.")}
    for block in host.blocks:
        _name_whole_bias(block, tuned)
    _check_shared(path, info, tuned, host)
    blocks = zip(host.blocks, _prompts(info, tensors, host), strict=True)
    tables = {
        f"{TABLE_OF}{index}": table
        for index, (block, prompts) in enumerate(blocks)
        if (table := _table(block, prompts, tuned)) is not None
    }
    brought = TaskValues(
        digest=_digest(info, tensors),
        by_name=tuned | tables,
        head=(tensors["head.weight"].float(), tensors["head.bias"].float()),
    )
    return info, brought


def _digest(info: AdapterInfo, tensors: Mapping[str, Tensor]) -> str:
    counts = (info.num_visual, info.num_kv, info.segments, info.layout)
    said = (info.method, info.classes, info.preprocessing, info.prompts, *counts)
    digest = hashlib.sha256(repr(said).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_shared(path: str | Path, info: AdapterInfo, tuned: Collection[str], host: Host) -> None:
    """Refuse what cannot differ from row to row."""
    changed = sorted(name for name in tuned if name not in host.tunable)
    reason = f"it tunes {changed[0]}, which all tasks share" if changed else ""
    if any(info.num_visual) and info.prompts.visual_depth == "shallow":
        reason = "its prompts travel through the blocks with the image's tokens"
    elif info.prompts.pool_prompts:
        reason = "its prompts are pooled into the feature"
    elif info.prompts.attention == "gated":
        reason = "its prompts have a softmax of their own"
    if reason:
        raise BackboneMismatch(
            f"{path}: a task of method {info.method} cannot share a batch with others: {reason}. Deep "
            "prompts, and biases, scales and LayerNorms beside them or alone, can."
        )


def _prompts(info: AdapterInfo, tensors: Mapping[str, Tensor], host: Host) -> list[BlockPrompts]:
    layers = [
        BlockPrompts(
            num_visual=num_visual,
            num_kv=num_kv,
            width=block.site.width,
            num_heads=block.site.num_heads,
            head_dim=block.site.head_dim,
            share_kv=info.prompts.share_kv,
        )
        for block, num_visual, num_kv in zip(host.blocks, info.num_visual, info.num_kv, strict=True)
    ]
    unpack(layers, tensors, info.segments, info.layout)
    return layers


def _table(block: HostBlock, prompts: BlockPrompts, tuned: Mapping[str, Tensor]) -> Tensor | None:
    """The block's table, computed with the task's own norm and projection."""
    table = build_table(
        None if prompts.visual is None else prompts.masked_visual(1),
        prompts.key_value(1),
        _called(block.norm, f"{block.site.path}.norm1", tuned),
        _to_kv(block, tuned),
        None if block.k_norm is None else _called(block.k_norm, f"{block.path}.k_norm", tuned),
        block.site.num_heads,
    )
    return None if table is None else table.contiguous()


def _called(module: nn.Module, path: str, tuned: Mapping[str, Tensor]) -> Projection:
    """A module with the task's own parameters, on the CPU in float32.

    A copy: the backbone computes with the module's parameters, in other threads even at this moment.
    """
    own = copy.deepcopy(module).cpu().float()
    for name, parameter in own.named_parameters():
        parameter.copy_(tuned.get(f"{path}.{name}", parameter))
    made: Projection = own
    return made


def _name_whole_bias(block: HostBlock, tuned: dict[str, Tensor]) -> None:
    """Biases of queries and values alone, under the projection's name, with zeros for the keys."""
    name, beside = f"{block.path}.qkv.bias", [f"{block.path}.{part}" for part in ("q_bias", "v_bias")]
    if all(part in tuned for part in beside):
        queries, values = (tuned.pop(part) for part in beside)
    elif name in tuned and len(tuned[name]) < block.projections["qkv"].out_features:
        queries, values = tuned[name].chunk(2)
    else:
        return
    tuned[name] = torch.cat([queries, torch.zeros_like(queries), values])


def _to_kv(block: HostBlock, tuned: Mapping[str, Tensor]) -> Projection:
    """The projection to keys and values with the task's own biases and scales, on the CPU in float32."""
    made = [
        _projection(layer, f"{block.path}.{name}", tuned, biases_beside(block.site.attention))
        for name, layer in block.projections.items()
    ]
    return made[0] if len(made) == 1 else lambda x: torch.cat([each(x) for each in made], dim=-1)


def _projection(
    layer: nn.Linear, path: str, tuned: Mapping[str, Tensor], beside: Tensor | None
) -> Projection:
    """To keys and values of the fused projection, or what one of two makes."""
    start = layer.out_features // 3 if path.endswith(".qkv") else 0
    own: Tensor | None = layer.bias
    bias = tuned.get(f"{path}.bias", beside if own is None else own)
    weight, *others = (
        None if part is None else part[start:].float().cpu()
        for part in (layer.weight, bias, tuned.get(f"{path}.scale"))
    )
    assert weight is not None
    return partial(scaled_linear, weight=weight, bias=others[0], scale=others[1])
