"""How much each part of the prompts matters (paper, section 3.3).

No mask parameters are needed: for a mask that multiplies prompt elements x, dL/dmask at 1 is the sum of
x * dL/dx over what it covers (reference.md section 2). So one pass gives every token's and every segment's
score, each image's on its own.

Shapes: B images, p visual prompts, m key-value prompts, H heads, d head width, D model width, R segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.config.pruning import Layout
from e2vpt.errors import ConfigError
from e2vpt.prompting.parts import evaluating, prompt_layers
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.pruning.segments import split_channels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What removing each part of the prompts would change, for every block in forward order.

    Attributes:
        tokens: [p] of each block; [0] where a block has no visual prompts.
        segments: [p, R] of each block.
        key_value: [m] of each block, over all heads.
        shared: one mask is meant for all blocks, and every block's scores are the same tensor.
        layout: which channels a segment has.
    """

    tokens: tuple[Tensor, ...]
    segments: tuple[Tensor, ...]
    key_value: tuple[Tensor, ...]
    shared: bool
    layout: Layout


def score(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    num_segments: int = 16,
    layout: Layout = "strided",
    shared: bool = True,
    signed: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> Scores:
    """Mean over images of |dL/dmask| (paper, eq. 7), or of dL/dmask itself with `signed` (official code).

    L is an image's cross-entropy, the model in eval mode. With `shared` one mask covers the same token of
    every block, so blocks add up before the absolute value. No gradient is left behind and no step taken.

    Raises:
        ConfigError: no visual prompts, segments that do not divide D, or `shared` over blocks that have
            different numbers of prompts.
    """
    layers = prompt_layers(model)
    if not any(layer.num_visual for layer in layers):
        raise ConfigError("There is nothing to prune: this model has no visual prompts.")
    device = next(model.parameters()).device
    totals: list[dict[str, Tensor]] | None = None
    num_images = 0
    with evaluating(model), _watched(layers) as seen, torch.enable_grad():
        for images, labels in loader:
            for values in seen:
                values.clear()
            logits = model(images.to(device))
            loss = F.cross_entropy(
                logits.to(torch.promote_types(logits.dtype, torch.float32)),
                labels.to(device),
                reduction="sum",
            )
            parts = _parts(seen, _gradients(loss, seen), num_segments, layout)
            parts = _joined(parts) if shared else parts
            sums = [{kind: _sum(part, signed) for kind, part in block.items()} for block in parts]
            totals = sums if totals is None else _added(totals, sums)
            num_images += len(labels)
            if on_batch is not None:
                on_batch(len(labels))
    if totals is None:
        raise ConfigError("There is nothing to score with: the loader has no images.")
    means = [{kind: total / num_images for kind, total in block.items()} for block in totals]
    return _scores(layers, means, num_segments, shared, layout)


@contextmanager
def _watched(layers: Sequence[BlockPrompts]) -> Iterator[list[dict[str, Tensor]]]:
    """Inside, a forward pass leaves each block's prompts in the yielded list, a leaf for every image."""
    seen: list[dict[str, Tensor]] = [{} for _ in layers]

    def watcher(values: dict[str, Tensor]) -> Callable[[str, Tensor], Tensor]:
        def watch(kind: str, prompts: Tensor) -> Tensor:
            # Gradient checkpointing comes here again: the leaf in the graph is the first one.
            return values.setdefault(kind, prompts.detach().clone().requires_grad_())

        return watch

    for layer, values in zip(layers, seen, strict=True):
        layer.watch = watcher(values)
    try:
        yield seen
    finally:
        for layer in layers:
            layer.watch = None


def _gradients(loss: Tensor, seen: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    leaves = [leaf for values in seen for leaf in values.values()]
    found = iter(torch.autograd.grad(loss, leaves))
    return [{kind: next(found) for kind in values} for values in seen]


def _parts(
    seen: Sequence[dict[str, Tensor]],
    gradients: Sequence[dict[str, Tensor]],
    num_segments: int,
    layout: Layout,
) -> list[dict[str, Tensor]]:
    """Every block's dL/dmask for each image: tokens [B, p], segments [B, p, R], key_value [B, m]."""
    blocks = []
    for values, grads in zip(seen, gradients, strict=True):
        products = {kind: (values[kind].detach() * grads[kind]).double() for kind in values}
        part: dict[str, Tensor] = {}
        if "visual" in products:
            part["segments"] = split_channels(products["visual"], num_segments, layout).sum(-1)
            part["tokens"] = part["segments"].sum(-1)
        key_value = [products[kind].sum((1, 3)) for kind in ("key", "value") if kind in products]
        if key_value:
            part["key_value"] = torch.stack(key_value).sum(0)
        blocks.append(part)
    return blocks


def _joined(blocks: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The blocks' parts added up, given to every block that has one: one mask covers them all."""
    sums: dict[str, Tensor] = {}
    for kind in ("tokens", "segments", "key_value"):
        parts = [block[kind] for block in blocks if kind in block]
        if len({part.shape for part in parts}) > 1:
            raise ConfigError(
                "The blocks have different numbers of prompts, so one mask cannot serve them all; "
                "score with shared=False."
            )
        if parts:
            sums[kind] = torch.stack(parts).sum(0)
    return [{kind: sums[kind] for kind in block} for block in blocks]


def _sum(part: Tensor, signed: bool) -> Tensor:
    return (part if signed else part.abs()).sum(0)


def _added(a: Sequence[dict[str, Tensor]], b: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    return [{kind: x[kind] + y[kind] for kind in x} for x, y in zip(a, b, strict=True)]


def _scores(
    layers: Sequence[BlockPrompts],
    means: Sequence[dict[str, Tensor]],
    num_segments: int,
    shared: bool,
    layout: Layout,
) -> Scores:
    empty = {"tokens": (0,), "segments": (0, num_segments), "key_value": (0,)}
    found = {
        kind: tuple(block[kind].cpu() if kind in block else torch.zeros(shape).double() for block in means)
        for kind, shape in empty.items()
    }
    return Scores(**found, shared=shared, layout=layout)
