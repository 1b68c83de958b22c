"""What a prompted Eva does beyond its attention: shallow prompts travel."""

from __future__ import annotations

from typing import Any

from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm

from e2vpt.prompting.edges import Edge, travelling


class EdgeOfEva(Edge, EvaBlock):
    """The first or last block of an Eva."""


class PostNormEdgeOfEva(Edge, EvaBlockPostNorm):
    """The same where norms come after attention and MLP."""


def install_eva_edges(model: Eva) -> None:
    """Where prompts travel, replace the first and last block of an Eva whose attention is prompted."""
    blocks: Any = model.blocks
    prompts = travelling(blocks[0])
    if prompts is None:
        return
    last = len(blocks) - 1
    for index in {0, last}:
        edge = PostNormEdgeOfEva if isinstance(blocks[index], EvaBlockPostNorm) else EdgeOfEva
        enters, leaves = (prompts if index == place else None for place in (0, last))
        blocks[index] = edge(blocks[index], enters=enters, leaves=leaves)
