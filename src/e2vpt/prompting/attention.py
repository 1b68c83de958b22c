"""Attention that also looks at a block's table of prompts (paper, sections 3.1 and 3.2), in every family.

The class of each family takes over the parts of the timm module it replaces, under their own names, and adds
one child, `prompts`. Without prompts it computes what timm computes.

Shapes: B images (or windows), N tokens, Q queries, t rows of a table, D model width, H heads, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from e2vpt.errors import ConfigError
from e2vpt.prompting.attend import attend, attention_weights
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.sites import take_over
from e2vpt.prompting.tables import (
    Projection,
    append_table,
    as_keys_values,
    build_table,
    for_windows,
    gated,
    project_tokens,
    split_qkv,
)
from e2vpt.prompting.token_path import biases_beside, entry_norm, norm_of_keys


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
    proj: nn.Linear
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

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise ConfigError(
            "nn.DataParallel cannot copy a prompted model: its copies would compute with the original's "
            "prompts. Start one process for each GPU, with torchrun or `accelerate launch`, or show the "
            "process one GPU only: CUDA_VISIBLE_DEVICES=0."
        )

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

    def projections(self) -> tuple[Projection, Projection]:
        """What makes queries [..., A], and keys and values [..., 2·A], of tokens [..., D]."""
        return split_qkv(self.qkv, biases_beside(self))

    def project(
        self, x_BND: Tensor, num_queries: int | None = None
    ) -> tuple[Tensor, Tensor, Projection | None]:
        """Queries [B, H, Q, d] of the first Q tokens, or of all; keys and values [B, N, 2, H, d] of all N;
        and what made these: see `project_tokens`.
        """
        num_queries = x_BND.shape[1] if num_queries is None else num_queries
        return project_tokens(self.qkv, x_BND, num_queries, self.num_heads, biases_beside(self))

    @property
    def num_key_heads(self) -> int:
        """Heads of keys and values; fewer than of queries where several queries share one."""
        return getattr(self, "num_kv_heads", self.num_heads)

    def keys_values(self, tokens_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [H, T, d] of tokens at the block's input, as a prompt there would get them."""
        kv_T2Hd = as_keys_values(
            self.projections()[1](entry_norm(self.block[0])(tokens_TD)), self.num_key_heads
        )
        keys, values = append_table(kv_T2Hd.unsqueeze(0), None, norm_of_keys(self))
        return keys[0], values[0]

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
        norm = entry_norm(self.block[0])
        if prompts.visual is not None and not prompts.travels:
            # Prompts may be held in higher precision than the frozen norm they pass through.
            visual = prompts.masked_visual(batch).to(next(norm.parameters(), self.proj.weight).dtype)
        to_kv, k_norm = to_kv or self.projections()[1], norm_of_keys(self)
        table = build_table(visual, prompts.key_value(batch), norm, to_kv, k_norm, self.num_key_heads)
        if table is not None and prompts.gate is not None:
            table = gated(table, prompts.gate)
        return None if table is None else table.to(like.dtype)

    def look(
        self,
        q_BHQd: Tensor,
        kv_BN2Hd: Tensor,
        table: Tensor | None,
        bias: Tensor | None = None,
        on_keys: Projection | None = None,
    ) -> Tensor:
        """What queries find at the image tokens, over which `bias` is, and at the table: [B, H, Q, d].

        In one softmax; or in two, where there is a gate, which is in the table already. `on_keys` as in
        `append_table`, by default the norm of keys.
        """
        dropout: float = self.attn_drop.p if self.training else 0.0  # type: ignore[assignment, union-attr]
        exists_Bt = self.exists(q_BHQd.shape[0])
        (k, v), num_extra, apart = self._seen(kv_BN2Hd, table, on_keys)
        out = attend(q_BHQd, k, v, bias, num_extra=num_extra, exists_Bt=exists_Bt, dropout=dropout)
        return out if apart is None else out + attend(q_BHQd, *apart, dropout=dropout)

    def weights(
        self,
        q_BHQd: Tensor,
        kv_BN2Hd: Tensor,
        table: Tensor | None,
        bias: Tensor | None = None,
        on_keys: Projection | None = None,
    ) -> tuple[Tensor, Tensor]:
        """How `look` weighs the image tokens [B, H, Q, N] and the rows of the table [B, H, Q, t].

        Both together add up to one; with a gate, each of the two does, if it is there.
        """
        (k, _), num_extra, apart = self._seen(kv_BN2Hd, table, on_keys)
        both = attention_weights(q_BHQd, k, bias, num_extra=num_extra)
        tokens, rows = both.tensor_split([kv_BN2Hd.shape[1]], dim=-1)
        return tokens, rows if apart is None else attention_weights(q_BHQd, apart[0])

    def _seen(
        self, kv_BN2Hd: Tensor, table: Tensor | None, on_keys: Projection | None
    ) -> tuple[tuple[Tensor, Tensor], int, tuple[Tensor, Tensor] | None]:
        """Keys and values of the first softmax, for every head of queries; how many of them are the table's;
        and those of a softmax of the table's own, where there is a gate.
        """
        is_apart = self.prompts.gate is not None
        k, v = append_table(kv_BN2Hd, None if is_apart else table, on_keys or norm_of_keys(self))
        seen, num_extra = (self._for_queries(k), self._for_queries(v)), k.shape[2] - kv_BN2Hd.shape[1]
        if table is None or not is_apart:
            return seen, num_extra, None
        k, v = append_table(table.expand(k.shape[0], *table.shape[-4:]), None)
        return seen, num_extra, (self._for_queries(k), self._for_queries(v))

    def _for_queries(self, of_keys: Tensor) -> Tensor:
        """What heads of keys or values have [B, H, N, d], for each head of queries."""
        groups = self.num_heads // self.num_key_heads
        return of_keys if groups == 1 else of_keys.repeat_interleave(groups, dim=1)

    def project_out(self, out_BQA: Tensor, x_BND: Tensor) -> Tensor:
        """What queries of the first Q tokens found, [B, Q, A], projected: [B, Q, D]."""
        # timm grew `norm` and `gate` over time; older ones do not have them.
        norm, gate = getattr(self, "norm", None), getattr(self, "gate", None)
        if norm is not None:
            out_BQA = norm(out_BQA)
        if gate is not None:
            out_BQA = out_BQA * gate(x_BND[:, : out_BQA.shape[1]]).sigmoid()
        projected: Tensor = self.proj_drop(self.proj(out_BQA))  # type: ignore[operator]
        return projected
