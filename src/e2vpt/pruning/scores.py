"""How much each part of the prompts matters (paper, section 3.3: pruning).

The paper multiplies every visual prompt, and every segment of its channels, by a mask of ones, and scores it
by the size of the loss's gradient there: |dL/dmask| (eq. 7), averaged over images. What scores low is pruned
(`select`, `apply`), and training starts again from the beginning (`rewind`).

No mask is needed here. For a mask that multiplies prompt elements x, dL/dmask at 1 is the sum of x · dL/dx
over the elements it covers (reference.md section 2). So one backward pass gives the score of every token,
every segment and every key-value prompt, for each image on its own.

Shapes: B images, p visual prompts, m key-value prompts, H heads, d head width, D model width, R segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.backbones.batches import check_labels, checked_batch
from e2vpt.config.pruning import Layout
from e2vpt.errors import ConfigError
from e2vpt.prompting.parts import evaluating, prompt_layers
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.pruning.segments import split_channels

_Block = dict[str, Tensor]
"""By name: the prompts of a block as they enter it, or what is known of their masks."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What removing each part of the prompts would change, for every block in forward order.

    Attributes:
        tokens: [p] of each block; [0] where a block has no visual prompts.
        segments: [p, R] of each block.
        key_value: [m] of each block, over all heads.
        shared: one mask is meant for all blocks, and every block's scores are the same tensor.
        layout: which channels a segment has.

    Raises:
        ConfigError: a score is not a finite number.
    """

    tokens: tuple[Tensor, ...]
    segments: tuple[Tensor, ...]
    key_value: tuple[Tensor, ...]
    shared: bool
    layout: Layout

    def __post_init__(self) -> None:
        for kind in ("tokens", "segments", "key_value"):
            for number, part in enumerate(getattr(self, kind), 1):
                if not bool(part.isfinite().all()):
                    raise ConfigError(
                        f"The scores of block {number} ({kind}) are not finite numbers, so nothing can be "
                        "chosen by them. Look for NaN or infinity among the images and the tuned parameters; "
                        "or score in float32, where half precision overflows."
                    )


def score(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    num_segments: int = 16,
    layout: Layout = "strided",
    shared: bool = True,
    signed: bool = False,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Scores:
    """Mean over images of |dL/dmask| (paper, eq. 7), or of dL/dmask itself with `signed` (official code).

    L is an image's cross-entropy, the model in eval mode. With `shared` one mask covers the same token of
    every block, so blocks add up before the absolute value. The model stays as it is.

    Raises:
        ConfigError: no visual prompts, segments that do not divide D, `shared` over blocks that have
            different numbers of prompts, labels of no class, or scores that are not finite numbers.
    """
    check_prunable(model, num_segments=num_segments, shared=shared)
    layers = prompt_layers(model)
    device, num_images = next(model.parameters()).device, 0
    totals: list[_Block] = [{} for _ in layers]
    with evaluating(model), _watched(layers) as entered, torch.enable_grad():
        for images, labels in map(checked_batch, loader):
            for prompts in entered:
                prompts.clear()
            logits = model(images.to(device))
            check_labels(labels, logits.shape[1])
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss = F.cross_entropy(logits, labels.to(device), reduction="sum")
            blocks = _mask_gradients(loss, entered, num_segments, layout)
            for total, block in zip(totals, _joined(blocks) if shared else blocks, strict=True):
                for kind, gradients in block.items():
                    sums = (gradients if signed else gradients.abs()).sum(0)
                    total[kind] = total[kind] + sums if kind in total else sums
            num_images += len(labels)
            on_batch(len(labels))
    if not num_images:
        raise ConfigError("There is nothing to score with: the loader has no images.")
    none = {"tokens": (0,), "segments": (0, num_segments), "key_value": (0,)}
    means = {
        kind: tuple(
            (t[kind] / num_images).cpu() if kind in t else torch.zeros(shape).double() for t in totals
        )
        for kind, shape in none.items()
    }
    return Scores(**means, shared=shared, layout=layout)


def check_prunable(model: nn.Module, *, num_segments: int, shared: bool) -> None:
    """See that a model's visual prompts can be scored so; the model may be one without memory.

    Raises:
        ConfigError: as `score`.
    """
    layers = prompt_layers(model)
    visual = [layer.visual for layer in layers if layer.visual is not None]
    if not visual:
        raise ConfigError("There is nothing to prune: this model has no visual prompts.")
    for prompts in visual:
        split_channels(prompts.detach(), num_segments, "contiguous")
    counts = [{len(prompts) for prompts in visual}, {layer.num_kv for layer in layers if layer.num_kv}]
    if shared and max(map(len, counts)) > 1:
        raise ConfigError(
            "The blocks have different numbers of prompts, so one mask cannot serve them all; choose masks "
            "per block (--masks per-block, shared=False)."
        )


@contextmanager
def _watched(layers: Sequence[BlockPrompts]) -> Iterator[list[_Block]]:
    """Inside, a forward pass leaves each block's prompts in the yielded list, a leaf for every image."""
    entered: list[_Block] = [{} for _ in layers]

    def watcher(prompts: _Block) -> Callable[[str, Tensor], Tensor]:
        # Gradient checkpointing calls it again: the leaf in the graph is the first one.
        return lambda kind, values: prompts.setdefault(kind, values.detach().clone().requires_grad_())

    for layer, prompts in zip(layers, entered, strict=True):
        layer.watch = watcher(prompts)
    try:
        yield entered
    finally:
        for layer in layers:
            layer.watch = None


def _mask_gradients(loss: Tensor, entered: list[_Block], num_segments: int, layout: Layout) -> list[_Block]:
    """Every block's dL/dmask for each image: tokens [B, p], segments [B, p, R], key_value [B, m]."""
    leaves = [leaf for prompts in entered for leaf in prompts.values()]
    gradients = iter(torch.autograd.grad(loss, leaves))
    blocks = []
    for prompts in entered:
        products = {kind: (x.detach() * next(gradients)).cpu().double() for kind, x in prompts.items()}
        block: _Block = {}
        if "visual" in products:
            block["segments"] = split_channels(products.pop("visual"), num_segments, layout).sum(-1)
            block["tokens"] = block["segments"].sum(-1)
        if products:  # keys, and values where they are not the same tensor
            block["key_value"] = torch.stack([each.sum((1, 3)) for each in products.values()]).sum(0)
        blocks.append(block)
    return blocks


def _joined(blocks: Sequence[_Block]) -> list[_Block]:
    """The blocks' gradients added up, given to every block that has one: one mask covers them all."""
    sums: _Block = {}
    for kind in ("tokens", "segments", "key_value"):
        parts = [block[kind] for block in blocks if kind in block]
        if parts:
            sums[kind] = torch.stack(parts).sum(0)
    return [{kind: sums[kind] for kind in block} for block in blocks]
