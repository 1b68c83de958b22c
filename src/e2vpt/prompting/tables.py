"""Prompts as extra keys and values of a block: its table (paper, sections 3.1 and 3.2).

The paper puts p visual prompts P into the sequence of every block. In deep prompting their outputs are thrown
away after the block, so all that is left of them is what the image tokens look at: K_p, V_p = kv(LN1(P)),
which needs no batch dimension. The paper's m key-value prompts join the keys and values after the
projection, as they are. Both together are the block's table, t = p + m rows.

A table is laid out as the frozen projection writes keys and values, [t, 2, H, d], so that one copy appends it
to those of the image tokens. It is [B, t, 2, H, d] where every image has prompts of its own.

Here and in the attention, numbers of images are `shape[0]`: `len()` would fix them in an exported graph.

Shapes: B images (or windows), N tokens, p visual prompts, m key-value prompts, D model width, H heads,
d head width, t = p + m, A = H·d.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from e2vpt.prompting.tuned_linear import is_plain, parts_of, scaled_linear

Projection = Callable[[Tensor], Tensor]


def build_table(
    visual: Tensor | None,
    key_value: tuple[Tensor, Tensor] | None,
    norm: Projection,
    to_kv: Projection,
    k_norm: Projection | None,
    num_heads: int,
) -> Tensor | None:
    """The table of a block's prompts; None where it has none.

    `visual` is [p, D] or [B, p, D], masked already; `key_value` is two of [H, m, d] or [B, H, m, d]. `norm`,
    `to_kv` and `k_norm` are what the block's image tokens pass on their way to keys and values.
    """
    if visual is None:
        return None if key_value is None else _as_rows(*key_value)
    rows = as_keys_values(to_kv(norm(visual)), num_heads)
    if k_norm is not None and not isinstance(k_norm, nn.Identity):
        k, v = rows.unbind(-3)
        rows = torch.stack([k_norm(k), v], dim=-3)
    if key_value is None:
        return rows
    own = _as_rows(*key_value).to(rows.dtype)
    return torch.cat([rows, own.expand(*rows.shape[:-4], *own.shape[-4:])], dim=-4)


def _as_rows(key: Tensor, value: Tensor) -> Tensor:
    """Key and value prompts [..., H, m, d] -> [..., m, 2, H, d]."""
    if key is value:
        both = key.unsqueeze(-4).expand(*key.shape[:-3], 2, *key.shape[-3:])
    else:
        both = torch.stack([key, value], dim=-4)
    return both.movedim(-2, -4)


def append_table(
    kv_BN2Hd: Tensor, table: Tensor | None, on_keys: Projection | None = None
) -> tuple[Tensor, Tensor]:
    """Keys and values, each [B, H, N + t, d], of N image tokens and then of a table.

    `on_keys` is what only the image tokens' keys [B, N, H, d] pass: a norm, which those in the table have
    passed before, or a rotation by position, which a prompt does not have.
    """
    if table is not None:
        table = table.expand(kv_BN2Hd.shape[0], *table.shape[-4:])
    if on_keys is None or isinstance(on_keys, nn.Identity):
        both = kv_BN2Hd if table is None else torch.cat([kv_BN2Hd, table], dim=1)
        k, v = both.unbind(2)
    else:
        k, v = kv_BN2Hd.unbind(2)
        k = on_keys(k)
        if table is not None:
            k, v = (torch.cat(pair, dim=1) for pair in zip((k, v), table.unbind(2), strict=True))
    return k.transpose(1, 2), v.transpose(1, 2)


def gated(table: Tensor, gate_H: Tensor) -> Tensor:
    """A table whose values are weighted by a gate: g·(softmax(q K) V) is softmax(q K)·(g V)."""
    key, value = table.unbind(-3)
    return torch.stack([key, value * gate_H.unsqueeze(-1)], dim=-3)


def for_windows(by_image: Tensor, num_windows: int) -> Tensor:
    """What every image has of its own, for each of the `num_windows` it is cut into (image-major)."""
    return by_image if num_windows == 1 else by_image.repeat_interleave(num_windows, 0)


def project_tokens(
    qkv: nn.Linear, x_BND: Tensor, num_queries: int, num_heads: int, bias_3A: Tensor | None = None
) -> tuple[Tensor, Tensor, Projection | None]:
    """Queries [B, H, Q, d] of the first Q tokens, keys and values [B, N, 2, H, d] of all N.

    Third comes the projection of keys and values, where it was made. With gradients, or where not all queries
    are wanted, these are two projections; else one, as in timm. `bias_3A` as in `split_qkv`.
    """
    if torch.is_grad_enabled() or num_queries < x_BND.shape[1]:
        to_q, to_kv = split_qkv(qkv, bias_3A)
        q_BQA, kv = to_q(x_BND[:, :num_queries]), to_kv(x_BND)
        return as_queries(q_BQA, num_heads), as_keys_values(kv, num_heads), to_kv
    q_k_v = torch.unflatten(_whole(qkv, bias_3A, x_BND), -1, (3, num_heads, -1))
    return q_k_v[:, :, 0].transpose(1, 2), q_k_v[:, :, 1:], None


def as_keys_values(kv: Tensor, num_heads: int) -> Tensor:
    """What a projection wrote, [..., 2·A], as keys and values [..., 2, H, d]."""
    return torch.unflatten(kv, -1, (2, num_heads, -1))


def as_queries(q_BQA: Tensor, num_heads: int) -> Tensor:
    """What a projection wrote, [B, Q, A], as queries [B, H, Q, d]."""
    return torch.unflatten(q_BQA, -1, (num_heads, -1)).transpose(1, 2)


def _whole(qkv: nn.Linear, bias_3A: Tensor | None, x: Tensor) -> Tensor:
    """The fused projection, [..., D] -> [..., 3·A]."""
    if bias_3A is None or not is_plain(qkv):
        out: Tensor = qkv(x)
        return out if bias_3A is None else out + bias_3A.to(out.dtype)
    weight, bias, scale = parts_of(qkv)
    return scaled_linear(x, weight, bias_3A if bias is None else bias, scale)


def split_qkv(qkv: nn.Linear, bias_3A: Tensor | None = None) -> tuple[Projection, Projection]:
    """timm's fused projection as two, on the same weights: x -> queries [..., A], keys and values [..., 2·A].

    `bias_3A` is for a layer without a bias, whose attention holds one beside it.

    For training: the output of a fused projection stays in memory as a whole until the backward pass, as long
    as its queries are needed (docs/performance.md).
    """
    width = qkv.out_features // 3
    if not is_plain(qkv):
        whole = partial(_whole, qkv, bias_3A)
        return (lambda x: whole(x)[..., :width]), (lambda x: whole(x)[..., width:])
    sizes, (weight, bias, scale) = [width, 2 * width], parts_of(qkv)
    others = (bias_3A if bias is None else bias, scale)
    weights = torch.split(weight, sizes)
    biases, scales = ((None, None) if part is None else torch.split(part, sizes, dim=-1) for part in others)
    to_q, to_kv = (
        partial(scaled_linear, weight=w, bias=b, scale=s)
        for w, b, s in zip(weights, biases, scales, strict=True)
    )
    return to_q, to_kv
