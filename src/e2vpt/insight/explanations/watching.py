"""The attention of a model while it looks at one picture, written out block by block.

No kernel that a model uses gives its weights. They are computed once more, from the queries and keys that the
module itself uses, and only inside `watched_attention`.

Shapes: W windows (1 where there are none), H heads, Q queries, N image tokens, t rows of a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from e2vpt.backbones.families import is_swin
from e2vpt.prompting.attention import AttentionWithPrompts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockAttention:
    """How one block weighed what it looked at.

    Attributes:
        tokens: [W, H, Q, N]; travelling visual prompts come last.
        rows: [W, H, Q, t], visual prompts first. `tokens` and `rows` together add up to one.
        num_travelling: visual prompts among the tokens.
        num_kv: key-value prompts among the rows.
    """

    tokens: Tensor
    rows: Tensor
    num_travelling: int
    num_kv: int

    @property
    def num_visual_rows(self) -> int:
        """Visual prompts among the rows."""
        return self.rows.shape[-1] - self.num_kv


@contextmanager
def watched_attention(model: nn.Module) -> Iterator[list[BlockAttention]]:
    """Inside, the list holds the attention of the last forward pass, a block at a time, in forward order.

    Empty for a method whose attention is timm's own (bias, adapter, LoRA ...).
    """
    found: list[BlockAttention] = []
    attentions = [module for module in model.modules() if isinstance(module, AttentionWithPrompts)]
    travelling = 0
    if attentions and not is_swin(model):
        first = attentions[0].prompts
        travelling = first.num_visual if first.travels and first.enabled else 0
    # A hook on the attention also has a ViT compute every row of its last block.
    hooks = [attention.register_forward_hook(lambda *_: None) for attention in attentions]
    start = model.register_forward_pre_hook(lambda *_: found.clear())
    for attention in attentions:
        looking: Any = partial(_look, attention, attention.look, travelling, found)
        attention.look = looking  # type: ignore[method-assign]
    try:
        yield found
    finally:
        for hook in (*hooks, start):
            hook.remove()
        for attention in attentions:
            del attention.look


def _look(
    attention: AttentionWithPrompts,
    look: Any,
    travelling: int,
    found: list[BlockAttention],
    q: Tensor,
    kv: Tensor,
    table: Tensor | None,
    *others: Any,
) -> Tensor:
    """What `attention.look` finds, its weights kept."""
    tokens, rows = attention.weights(q, kv, table, *others)
    prompts = attention.prompts
    if prompts.gate is not None and rows.shape[-1]:
        # Two softmaxes, the second times a gate that may be negative: sizes, as parts of one.
        gate = prompts.gate.detach().abs().view(-1, 1, 1)
        tokens, rows = tokens / (1 + gate), rows * gate / (1 + gate)
    num_kv = prompts.num_kv if prompts.enabled else 0
    found.append(BlockAttention(tokens=tokens, rows=rows, num_travelling=travelling, num_kv=num_kv))
    out: Tensor = look(q, kv, table, *others)
    return out
