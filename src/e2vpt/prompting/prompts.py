"""One block's prompts: what E²VPT learns beside the head (paper, sections 3.1 and 3.2).

A visual prompt is a token [D] that the block sees beside its image tokens. A key-value prompt is one more row
[d] of the keys and values of every head; by default one tensor serves as both. Pruning (section 3.3) removes
visual prompts, and zeroes segments of those that are left.

Shapes: p visual prompts, m key-value prompts, D model width, H heads, d head width, B images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BlockPrompts(nn.Module):
    """The mixed prompts of one block.

    Attributes:
        visual: Parameter [p, D], or None.
        key: Parameter [H, m, d], or None; joins the keys after the projection, as it is.
        value: Parameter [H, m, d]; the same Parameter as `key` when the two are shared. A state dict then
            holds `key` alone.
        gate: Parameter [H] that weights a softmax of the prompts' own, or None where they share that of the
            image tokens, or there are none.
        keep: buffer [p, D] of 0/1 that multiplies `visual`, or None where there is none. A row of zeros is
            not a removed prompt: LayerNorm turns it into its own bias, which still makes a key and a value.
        share_kv: `key` and `value` are one Parameter.
        dropout: probability of dropping a visual prompt element, drawn for every image while training.
        travels: the visual prompts go through the blocks with the image tokens (shallow) instead of
            becoming extra keys and values of this block only (deep).
        enabled: False switches this block's prompts off without touching them.
        waits_for_images: they are to start from training images and have not yet.
        visual_before: visual prompt elements before any pruning.
        watch: sees the prompts as they enter the block, a copy for every image ([B, p, D] masked visual
            prompts, [B, H, m, d] keys and values), and returns what enters instead; None but while scoring.
    """

    visual: nn.Parameter | None
    key: nn.Parameter | None
    value: nn.Parameter | None
    gate: nn.Parameter | None
    keep: Tensor | None

    def __init__(
        self,
        *,
        num_visual: int,
        num_kv: int,
        width: int,
        num_heads: int,
        head_dim: int,
        share_kv: bool = True,
        dropout: float = 0.0,
        travels: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.visual = _parameter(torch.zeros(num_visual, width))
        self.register_buffer("keep", None if self.visual is None else torch.ones(num_visual, width))
        key_value = torch.zeros(num_heads, num_kv, head_dim)
        self.key = _parameter(key_value)
        self.value = self.key if share_kv else _parameter(key_value)
        has_gate = gated and (num_visual or num_kv)
        self.gate = nn.Parameter(torch.zeros(num_heads)) if has_gate else None
        self.share_kv = share_kv
        self.dropout = dropout
        self.travels = travels
        self.enabled = True
        self.waits_for_images = False
        self.visual_before = num_visual * width
        self.watch: Callable[[str, Tensor], Tensor] | None = None

    @property
    def num_visual(self) -> int:
        """Visual prompts of this block, p."""
        return 0 if self.visual is None else len(self.visual)

    @property
    def num_kv(self) -> int:
        """Key-value prompts of this block, m."""
        return 0 if self.key is None else self.key.shape[1]

    @property
    def drops(self) -> bool:
        """Whether the next forward pass drops other prompt elements for every image."""
        return self.training and self.dropout > 0 and self.visual is not None

    @property
    def differs_by_image(self) -> bool:
        """Whether the next forward pass has prompts of its own for every image."""
        return self.drops or self.watch is not None

    def masked_visual(self, batch: int) -> Tensor:
        """The visual prompts as they enter the block: [p, D], or [B, p, D] when they differ by image.

        Dropout comes before the mask, as in the official code.
        """
        assert self.visual is not None and self.keep is not None
        visual: Tensor = self.visual
        if self.drops:
            visual = F.dropout(visual.expand(batch, -1, -1), self.dropout, training=True)
        return self._watched("visual", visual * self.keep, batch)

    def key_value(self, batch: int) -> tuple[Tensor, Tensor] | None:
        """Key and value prompts [H, m, d], or [B, H, m, d] when they differ by image; or None."""
        if self.key is None or self.value is None:
            return None
        key = self._watched("key", self.key, batch)
        return key, key if self.value is self.key else self._watched("value", self.value, batch)

    def _watched(self, kind: str, prompts: Tensor, batch: int) -> Tensor:
        return prompts if self.watch is None else self.watch(kind, prompts.expand(batch, *prompts.shape))

    @torch.no_grad()
    def resize(self, *, visual: Tensor | None, keep: Tensor | None, **others: Tensor | None) -> None:
        """Take other tensors: `visual` and `keep` [p, D], `key` and `value` [H, m, d], `gate` [H].

        A Parameter whose shape stays takes the values, so that its optimizer still trains it. Others become
        new ones (what hangs on an old one knows its old shape), None where no row is left. Masked elements
        become zero. A gate that is not given stays while there are prompts.
        """
        self.visual = _refilled(self.visual, visual if visual is None or keep is None else visual * keep)
        self.keep = None if self.visual is None or keep is None else keep.detach().clone()
        if "key" in others:
            self.key = _refilled(self.key, others["key"])
            self.value = self.key if self.share_kv else _refilled(self.value, others["value"])
        gate = others.get("gate", self.gate)
        has_prompts = self.visual is not None or self.key is not None
        self.gate = _refilled(self.gate, gate) if has_prompts else None

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Shared keys and values under one name: safetensors, and so Hugging Face's Trainer, refuse two."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.share_kv:
            destination.pop(prefix + "value", None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        key, value = prefix + "key", prefix + "value"
        if self.share_kv and key in state_dict:
            state_dict.setdefault(value, state_dict[key])  # torch looks for both names; it gave us a copy
            if not _same(state_dict[key], state_dict[value]):
                error_msgs: list[str] = args[-1]
                error_msgs.append(
                    f"{key} and {value} differ; this model has one tensor for both. "
                    "Make it with PromptConfig(share_kv=False)."
                )
                return
        with self._sharing():
            super()._load_from_state_dict(state_dict, prefix, *args)
        self.waits_for_images &= any(prefix + name not in state_dict for name, _ in self.named_parameters())

    def _apply(self, *args: Any, **kwargs: Any) -> BlockPrompts:
        with self._sharing():
            super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Keep one Parameter for keys and values where torch sets both, one after the other."""
        yield
        if self.share_kv:
            self.value = self.key

    def extra_repr(self) -> str:
        """Counts, for `print(model)`."""
        shared = "shared" if self.share_kv else "separate"
        return f"num_visual={self.num_visual}, num_kv={self.num_kv} ({shared}), travels={self.travels}"


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or one.is_meta or torch.equal(one, other)


def _refilled(old: nn.Parameter | None, values: Tensor | None) -> nn.Parameter | None:
    if old is None or values is None or _kind(old) != _kind(values):
        return _parameter(values)
    old.copy_(values)
    old.grad = None
    return old


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _parameter(values: Tensor | None) -> nn.Parameter | None:
    """Rows [p, D] or [H, m, d], or a gate [H], as a Parameter; None where there are none."""
    return nn.Parameter(values.detach().clone()) if values is not None and values.shape[-2:].numel() else None
