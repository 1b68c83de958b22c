"""Prompts into a frozen backbone: install, prove that nothing else changed, freeze."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.eva import Eva
from timm.models.swin_transformer import WindowAttention
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from e2vpt.backbones.families import ROTARY_ATTENTIONS, is_swin
from e2vpt.config import PromptConfig
from e2vpt.errors import ConfigError, UnsupportedBackbone, check_type
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.families.beit_attention import PromptedBeitAttention
from e2vpt.prompting.families.edges import EdgeOfBeit, install_edges
from e2vpt.prompting.families.eva import install_in_eva
from e2vpt.prompting.families.rotary_attention import PromptedRotaryAttention
from e2vpt.prompting.families.swin import install_live_prompts
from e2vpt.prompting.families.vit import install_short_path
from e2vpt.prompting.families.vit_attention import PromptedAttention
from e2vpt.prompting.families.window_attention import PromptedCosineWindowAttention, PromptedWindowAttention
from e2vpt.prompting.initial import init_key_value, init_visual
from e2vpt.prompting.parts import classifier, evaluating, prompt_layers
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.restoring import remember
from e2vpt.prompting.sites import Site, find_sites

M = TypeVar("M", bound=nn.Module)


def prompt(backbone: M, config: PromptConfig | None = None) -> M:
    """Put mixed prompts into a timm backbone (paper, section 3). Changes and returns it.

    Everything is frozen but the prompts and the classifier head. Initial values come from the global random
    state; those that come from training images (`init="patch"`) wait for `init_from_images`. Dropout and drop
    path stay as the backbone was created.

    Raises:
        UnsupportedBackbone: a part of the model is not known to be safe; the message names it.
        ConfigError: the settings do not fit this backbone, or it has prompts already.
    """
    config = PromptConfig() if config is None else config
    check_type("config", config, PromptConfig)
    sites = find_sites(backbone)
    remember(backbone)
    visual, kv = config.visual_counts(len(sites)), config.kv_counts(len(sites))
    if config.pool_prompts and not is_swin(backbone):
        raise ConfigError("pool_prompts is for Swin; others read out a class token or their patches.")
    prompted = [
        _prompted(site, _make_prompts(site, config, num_visual, num_kv, backbone, sites[0].width))
        for site, num_visual, num_kv in zip(sites, visual, kv, strict=True)
    ]
    for site, attention in zip(sites, prompted, strict=True):
        site.block.attn = attention
    if isinstance(backbone, VisionTransformer):
        install_short_path(backbone)
    elif isinstance(backbone, Eva):
        install_in_eva(backbone)
    elif isinstance(backbone, Beit):
        install_edges(backbone, {BeitBlock: EdgeOfBeit})
    elif config.pool_prompts or config.visual_depth == "shallow":
        install_live_prompts(backbone, pool_prompts=config.pool_prompts)
    if config.visual_depth == "shallow":
        backbone.forward_intermediates = IntermediateFeatures(backbone).read  # type: ignore[assignment]
    _freeze(backbone)
    backbone.prompt_config = config  # type: ignore[assignment]
    return backbone


class IntermediateFeatures:
    """`forward_intermediates` of a model whose prompts travel: timm would take their rows for image tokens.

    A method of an object that holds its model, so that it follows deepcopy and pickle.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def read(self, *args: Any, **kwargs: Any) -> Any:
        """timm's result, or ConfigError while travelling prompts are on."""
        if any(layer.enabled and layer.travels and layer.num_visual for layer in prompt_layers(self.model)):
            raise ConfigError(
                "forward_intermediates does not know travelling prompts. Use visual_depth='deep', or call it "
                "inside `with e2vpt.disabled(model)`."
            )
        return type(self.model).forward_intermediates(self.model, *args, **kwargs)  # type: ignore[attr-defined]


def _make_prompts(
    site: Site, config: PromptConfig, num_visual: int, num_kv: int, backbone: nn.Module, first_width: int
) -> BlockPrompts:
    prompts = BlockPrompts(
        num_visual=num_visual,
        num_kv=num_kv,
        width=site.width,
        num_heads=site.num_heads,
        head_dim=site.head_dim,
        share_kv=config.share_kv,
        dropout=config.dropout,
        travels=config.visual_depth == "shallow",
        gated=config.attention == "gated",
    )
    height, width = backbone.patch_embed.patch_size  # type: ignore[union-attr, misc]
    init_visual(prompts, config.init, int(height) * int(width), first_width)
    init_key_value(prompts, config.kv_init)
    return prompts.to(next(site.attention.parameters()).device)


_WITH_PROMPTS: Mapping[type[nn.Module], type[AttentionWithPrompts]] = {
    Attention: PromptedAttention,
    **dict.fromkeys(ROTARY_ATTENTIONS, PromptedRotaryAttention),
    BeitAttention: PromptedBeitAttention,
    WindowAttention: PromptedWindowAttention,
    CosineWindowAttention: PromptedCosineWindowAttention,
}


def _prompted(site: Site, prompts: BlockPrompts) -> nn.Module:
    """The site's attention with room for prompts, after proof that it computes the same without them."""
    attention, block = site.attention, site.block
    new = _WITH_PROMPTS[type(attention)](attention, block, prompts)
    _probe(site, new)
    return new


@torch.no_grad()
def _probe(site: Site, new: nn.Module) -> None:
    """Compare old and new attention, without prompts, on a small random tensor."""
    weight = next(site.attention.parameters())
    if weight.is_meta:
        return
    # A bias by position is of so many tokens and no others.
    positions: Tensor | None = getattr(site.attention, "relative_position_index", None)
    tokens, generator = 5 if positions is None else len(positions), torch.Generator().manual_seed(0)
    position: tuple[Tensor, ...] = ()
    if isinstance(site.attention, ROTARY_ATTENTIONS):
        angles = torch.randn(tokens, site.head_dim, generator=generator).to(weight)
        position = (torch.cat([angles.sin(), angles.cos()], dim=-1),)
        tokens += int(site.attention.num_prefix_tokens)
    x = torch.randn(2, tokens, site.width, generator=generator).to(weight)
    prompts = new.prompts
    assert isinstance(prompts, BlockPrompts)
    prompts.enabled = False
    with evaluating(site.attention, new):
        expected, found = site.attention(x, *position), new(x, *position)
    prompts.enabled = True
    prompts.train(site.attention.training)
    scale = float(expected.abs().max()) + torch.finfo(weight.dtype).tiny
    difference = float((expected - found).abs().max()) / scale
    if not difference <= 100 * torch.finfo(weight.dtype).eps:
        raise UnsupportedBackbone(
            f"{site.path}.attn computes something else than the attention this version knows "
            f"(relative difference {difference:.1e}). This timm version or this model is not supported yet."
        )


def _freeze(model: nn.Module) -> None:
    """Leave only prompts and head trainable."""
    model.requires_grad_(False)
    for part in [classifier(model), *prompt_layers(model)]:
        part.requires_grad_(True)
