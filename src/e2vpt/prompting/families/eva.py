"""What a prompted Eva does beyond its attention: as a ViT, with blocks that are given positions.

Shapes: B images, N tokens, D model width.
"""

from __future__ import annotations

from typing import Any

from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from torch import Tensor

from e2vpt.prompting.families.edges import Edge, install_edges
from e2vpt.prompting.families.logits import LogitsForward, Steps


class EdgeOfEva(Edge, EvaBlock):
    """The first or last block of an Eva."""

    def class_token(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """The block's output for the class token only: x [B, N, D] -> [B, 1, D]; exact, as in a ViT."""
        x = self.enter(x)
        found = self.attn.attend_first(self.norm1(x), rope)  # type: ignore[operator]
        token = x[:, :1] + self.drop_path1(found if self.gamma_1 is None else self.gamma_1 * found)
        made = self.mlp(self.norm2(token))
        out: Tensor = token + self.drop_path2(made if self.gamma_2 is None else self.gamma_2 * made)
        return out


class PostNormEdgeOfEva(Edge, EvaBlockPostNorm):
    """The same where norms come after attention and MLP."""

    def class_token(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """As that of `EdgeOfEva`."""
        x = self.enter(x)
        token = x[:, :1] + self.drop_path1(self.norm1(self.attn.attend_first(x, rope)))  # type: ignore[operator]
        out: Tensor = token + self.drop_path2(self.norm2(self.mlp(token)))
        return out


def _begin(model: Any, images: Tensor) -> tuple[Tensor, Steps]:
    x, rope = model._pos_embed(model.patch_embed(images))
    by_block = (
        rope if getattr(model, "rope_mixed", False) and rope is not None else [rope] * len(model.blocks)
    )
    pre = getattr(model, "norm_pre", None)  # timm's older ones have none
    steps = [(block, {"rope": each}) for block, each in zip(model.blocks, by_block, strict=True)]
    return (x if pre is None else pre(x)), steps


def install_in_eva(model: Eva) -> None:
    """Replace the first and last block, and `forward`, of an Eva whose attention is prompted already."""
    edges = {EvaBlock: EdgeOfEva, EvaBlockPostNorm: PostNormEdgeOfEva}
    install_edges(model, edges, always=True)
    model.forward = LogitsForward(model, _begin).forward  # type: ignore[method-assign]
