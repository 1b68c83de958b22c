"""The first and last block of a model whose prompts travel (shallow prompting): they come in, they go out.

Travelling prompts are appended behind the image tokens: attention does not see order, and every consumer of
prefix tokens finds them where timm puts them.

Shapes: B images, N tokens, p visual prompts, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.models.beit import Block as BeitBlock
from torch import Tensor, nn

from e2vpt.errors import ConfigError
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.sites import take_over


class Edge(nn.Module):
    """Stands before a timm block class in the bases of the block that takes its place.

    Attributes:
        model: whose block this is.
        enters, leaves: prompts that come in before, or go out behind, this block.
    """

    def __init__(
        self,
        block: nn.Module,
        model: nn.Module,
        *,
        enters: BlockPrompts | None = None,
        leaves: BlockPrompts | None = None,
    ) -> None:
        take_over(self, block)
        attention = self.attn
        assert isinstance(attention, AttentionWithPrompts)
        attention.block = (self,)
        # In containers nn.Module does not look into: the prompts stay children of their attention only.
        self._model: tuple[Any] = (model if enters or leaves else None,)
        self._enters = (enters,)
        self._leaves = (leaves,)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x [B, N, D] -> [B, N, D], or with p rows more between a first and a last block."""
        return self._leave(super().forward(self.enter(x, *args, **kwargs), *args, **kwargs))

    def enter(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, **_: Any) -> Tensor:
        """The tokens, and travelling prompts behind them: [B, N, D] -> [B, N + p, D]."""
        self._check_other_edge()
        prompts = self._enters[0]
        if prompts is None or not prompts.enabled or not prompts.num_visual:
            return x
        if attn_mask is not None or is_causal:
            raise ConfigError(
                "An attention mask does not say how travelling prompts may look; "
                "use visual_depth='deep' with masks."
            )
        visual = prompts.masked_visual(x.shape[0]).to(x.dtype)
        return torch.cat([x, visual.expand(x.shape[0], -1, -1)], dim=1)

    def _leave(self, x: Tensor) -> Tensor:
        prompts = self._leaves[0]
        if prompts is None or not prompts.enabled:
            return x
        return x[:, : x.shape[1] - prompts.num_visual]

    def _check_other_edge(self) -> None:
        """See that prompts that come in here go out again, and the other way round."""
        for prompts, place, name in ((self._enters[0], -1, "_leaves"), (self._leaves[0], 0, "_enters")):
            if prompts is None or not prompts.enabled:
                continue
            if getattr(self._model[0].blocks[place], name, (None,))[0] is not prompts:
                raise ConfigError(
                    "The first or the last block was taken off this model after its prompts were put in, "
                    "and these travel from one to the other. Shorten the backbone before e2vpt.prompt, or "
                    "use visual_depth='deep'."
                )


class EdgeOfBeit(Edge, BeitBlock):
    """The first or last block of a BEiT."""


def install_edges(model: Any, edges: Mapping[type[nn.Module], type[Edge]], *, always: bool = False) -> None:
    """Replace the first and last of a model's blocks, by their class: `always`, or where prompts travel."""
    blocks = model.blocks
    prompts, last = travelling(blocks[0]), len(blocks) - 1
    if prompts is None and not always:
        return
    for index in {0, last}:
        enters, leaves = (prompts if index == place else None for place in (0, last))
        blocks[index] = edges[type(blocks[index])](blocks[index], model, enters=enters, leaves=leaves)


def travelling(first: nn.Module) -> BlockPrompts | None:
    """The prompts that come in before the first block, if any."""
    prompts = first.attn.prompts  # type: ignore[union-attr]
    assert isinstance(prompts, BlockPrompts)
    return prompts if prompts.travels and prompts.num_visual else None
