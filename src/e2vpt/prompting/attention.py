"""Attention that also looks at a block's table of prompts (paper, sections 3.1 and 3.2); the ViT's.

Each class takes over the parts of the timm module it replaces, under their own names, and adds one child,
`prompts`. Without prompts it computes what timm computes.

Shapes: B images (or windows), N tokens, Q queries, t rows of a table, D model width, H heads, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from e2vpt.errors import ConfigError
from e2vpt.prompting.attend import attend, one_query
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.sites import take_over
from e2vpt.prompting.tables import (
    Projection,
    append_table,
    as_queries,
    build_table,
    for_windows,
    gated,
    project_tokens,
    split_qkv,
)
from e2vpt.prompting.tuned_linear import is_plain


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TableByImage:
    """Tables of images that belong to different tasks.

    Attributes:
        table: [B, t, 2, H, d].
        exists: bool [B, t], rows that the image's own table has; None where all have all.
    """

    table: Tensor
    exists: Tensor | None


class AttentionWithPrompts(nn.Module):
    """What the prompted attention of every family has in common: projections, and the table.

    Attributes:
        prompts: the block's prompts.
        block: the block, in a tuple: a module is no child of its own child.
        stored: tables by precision, of each `folded` that is entered; empty outside.
        by_image: a table for every image of the coming forward pass, in place of the prompts' own.
    """

    prompts: BlockPrompts
    qkv: nn.Linear
    num_heads: int

    def __init__(self, attention: nn.Module, block: nn.Module, prompts: BlockPrompts) -> None:
        take_over(self, attention)
        self.prompts = prompts
        self.block = (block,)
        self.stored: list[dict[torch.dtype | None, Tensor | None]] = []
        self.by_image: TableByImage | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy or pickle of a model is not inside `folded`.
        return {**self.__dict__, "stored": [], "by_image": None}

    def table(self, like: Tensor, batch: int, to_kv: Projection | None = None) -> Tensor | None:
        """The extra keys and values of the coming forward pass, [t, 2, H, d] or [B, t, 2, H, d], if any.

        Args:
            like: queries, or keys and values, of the tokens of `batch` images.
            to_kv: the projection of keys and values, where it is at hand.
        """
        self.check_mode()
        if self.by_image is not None:
            return self.by_image.table.to(like.dtype)
        if not self.prompts.enabled:
            return None
        stored = self.stored[-1:]
        if not stored:
            return self._built(like, batch, to_kv)
        kind = like.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        if precision in stored[0]:
            return stored[0][precision]
        with torch.inference_mode(False), torch.no_grad():
            table = self._built(like, batch, to_kv)
            table = None if table is None else table.contiguous()  # never a view of a Parameter
        if not torch.compiler.is_compiling():
            stored[0][precision] = table
        return table

    def exists(self, batch: int) -> Tensor | None:
        """Which rows of the table [batch, t] each image, or window, has; None where all have all."""
        exists = None if self.by_image is None else self.by_image.exists
        return None if exists is None else for_windows(exists, batch // exists.shape[0])

    def check_mode(self) -> None:
        """Refuse to train, or to score prompts, inside `folded`."""
        if self.stored and (self.training or self.prompts.training or self.prompts.watch is not None):
            raise ConfigError(
                "Inside `folded` a model only predicts, with fixed tables. Train and score prompts outside "
                "the block, or call model.eval() first."
            )

    def _built(self, like: Tensor, batch: int, to_kv: Projection | None) -> Tensor | None:
        prompts, visual = self.prompts, None
        norm: nn.Module = self.block[0].norm1  # type: ignore[assignment]
        if prompts.visual is not None and not prompts.travels:
            # Prompts may be held in higher precision than the frozen norm they pass through.
            visual = prompts.masked_visual(batch).to(next(norm.parameters(), self.qkv.weight).dtype)
        to_kv, k_norm = to_kv or split_qkv(self.qkv)[1], getattr(self, "k_norm", None)
        table = build_table(visual, prompts.key_value(batch), norm, to_kv, k_norm, self.num_heads)
        if table is not None and prompts.gate is not None:
            table = gated(table, prompts.gate)
        return None if table is None else table.to(like.dtype)

    def look(
        self, q_BHQd: Tensor, kv_BN2Hd: Tensor, table: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        """What queries find at the image tokens, over which `bias` is, and at the table: [B, H, Q, d].

        In one softmax; or in two, where there is a gate, which is in the table already.
        """
        dropout: float = self.attn_drop.p if self.training else 0.0  # type: ignore[assignment, union-attr]
        apart = table if self.prompts.gate is not None else None
        exists_Bt = self.exists(q_BHQd.shape[0])
        k, v = append_table(kv_BN2Hd, table if apart is None else None, getattr(self, "k_norm", None))
        num_extra = k.shape[2] - kv_BN2Hd.shape[1]
        out = attend(q_BHQd, k, v, bias, num_extra=num_extra, exists_Bt=exists_Bt, dropout=dropout)
        if apart is None:
            return out
        k, v = append_table(apart.expand(k.shape[0], *apart.shape[-4:]), None)
        return out + attend(q_BHQd, k, v, dropout=dropout)


class PromptedAttention(AttentionWithPrompts, Attention):
    """timm's ViT attention plus `prompts`."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x [B, N, D] -> [B, N, D]; `attn_mask` as in timm, over the image tokens."""
        return self.attend(x, x.shape[1], attn_mask, is_causal)

    def attend(
        self, x_BND: Tensor, num_queries: int, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Outputs [B, Q, D] of the first Q tokens, which look at all N tokens and at the prompts."""
        q, kv, to_kv = project_tokens(self.qkv, x_BND, num_queries, self.num_heads)
        if is_causal:
            attn_mask = torch.ones(num_queries, x_BND.shape[1], dtype=torch.bool, device=q.device).tril()
        out = self.look(self.q_norm(q), kv, self.table(kv, x_BND.shape[0], to_kv), attn_mask)
        return self._project_out(out.transpose(1, 2).flatten(2), x_BND)

    def attend_first(self, x_BND: Tensor) -> Tensor:
        """Outputs [B, 1, D] of the first token alone, as `attend(x, 1)` gives them.

        One query needs no projected keys and values of image tokens: q·(W_k x + b_k) = (W_k'q)·x + q·b_k, and
        a weighted sum of W_v x + b_v is W_v and b_v of the weighted sum of x. That is 2·N·D² products fewer.
        """
        dropping = self.training and self.attn_drop.p > 0
        if dropping or not isinstance(self.k_norm, nn.Identity) or not is_plain(self.qkv):
            return self.attend(x_BND, 1)
        to_q, to_kv = split_qkv(self.qkv)
        q_BHd = as_queries(to_q(x_BND[:, :1]), self.num_heads).squeeze(2)
        table = self.table(q_BHd, x_BND.shape[0], to_kv)
        is_apart = self.prompts.gate is not None
        out_BHd = one_query(
            self.q_norm(q_BHd) * self.scale,
            x_BND,
            self.qkv,
            table,
            exists_Bt=self.exists(x_BND.shape[0]),
            is_apart=is_apart,
        )
        return self._project_out(out_BHd.flatten(1).unsqueeze(1), x_BND)

    def _project_out(self, out_BQA: Tensor, x_BND: Tensor) -> Tensor:
        # timm grew `norm` and `gate` over time; older ones do not have them.
        norm, gate = getattr(self, "norm", None), getattr(self, "gate", None)
        if norm is not None:
            out_BQA = norm(out_BQA)
        if gate is not None:
            out_BQA = out_BQA * gate(x_BND[:, : out_BQA.shape[1]]).sigmoid()
        projected: Tensor = self.proj_drop(self.proj(out_BQA))
        return projected
