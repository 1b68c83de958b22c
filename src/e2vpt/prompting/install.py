"""Prompts on a frozen backbone: install, find, initialise from images, switch off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from e2vpt.config.settings import PromptConfig
from e2vpt.errors import ConfigError, UnsupportedBackbone
from e2vpt.prompting.attention import PromptedAttention, PromptedWindowAttention
from e2vpt.prompting.prompts import (
    BlockPrompts,
    init_key_value,
    init_key_value_from_tokens,
    init_visual,
    init_visual_from_tokens,
)
from e2vpt.prompting.sites import Site, find_sites
from e2vpt.prompting.swin import install_live_prompts
from e2vpt.prompting.tables import keys_values
from e2vpt.prompting.vit import install_edges

M = TypeVar("M", bound=nn.Module)


def prompt(backbone: M, config: PromptConfig | None = None) -> M:
    """Put mixed prompts into a timm ViT or Swin (paper, section 3). Changes and returns the backbone.

    Everything is frozen but the prompts and the classifier head. Initial values come from the global random
    state. Dropout and drop path stay as the backbone was created.

    Raises:
        UnsupportedBackbone: a part of the model is not known to be safe; the message names it.
        ConfigError: the settings do not fit this backbone, or it has prompts already.
    """
    config = config or PromptConfig()
    sites = find_sites(backbone)
    visual, kv = config.visual_counts(len(sites)), config.kv_counts(len(sites))
    if config.pool_prompts and not isinstance(backbone, SwinTransformer):
        raise ConfigError("pool_prompts is for Swin; a ViT reads out its class token or its patches.")
    prompted = [
        _prompted(site, _make_prompts(site, config, num_visual, num_kv, backbone))
        for site, num_visual, num_kv in zip(sites, visual, kv, strict=True)
    ]
    for site, attention in zip(sites, prompted, strict=True):
        site.block.attn = attention
    if isinstance(backbone, VisionTransformer):
        install_edges(backbone)
    elif isinstance(backbone, SwinTransformer) and (config.pool_prompts or config.visual_depth == "shallow"):
        install_live_prompts(backbone, pool_prompts=config.pool_prompts)
    if config.visual_depth == "shallow":
        backbone.forward_intermediates = IntermediateFeatures(backbone).read  # type: ignore[assignment]
    _freeze(backbone)
    backbone.prompt_config = config  # type: ignore[assignment]
    return backbone


def prompt_layers(model: nn.Module) -> list[BlockPrompts]:
    """The prompts of every block, in forward order.

    Raises:
        ConfigError: the model has none.
    """
    layers = find_prompts(model)
    if not layers:
        raise ConfigError("This model has no prompts; call e2vpt.prompt(backbone, config) first.")
    return layers


def find_prompts(model: nn.Module) -> list[BlockPrompts]:
    """The prompts of every block, in forward order; none of a model that has no room for prompts."""
    return [module for module in model.modules() if isinstance(module, BlockPrompts)]


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Inside the block the model computes what its backbone and head compute without prompts."""
    layers = prompt_layers(model)
    before = [layer.enabled for layer in layers]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled


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


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is back in its own mode."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def init_from_images(model: nn.Module, images: Tensor) -> None:
    """Initialise prompts whose config says `patch` from real patch tokens of training images [B, 3, h, w].

    The frozen backbone runs once without prompts; each block's visual prompts become patch tokens seen at
    its input, its key-value prompts their projected keys and values. Draws from the global random state.
    """
    config = getattr(model, "prompt_config", None)
    if not isinstance(config, PromptConfig):
        raise ConfigError("This model has no prompts; call e2vpt.prompt(backbone, config) first.")
    for block, tokens in _block_inputs(model, images):
        attention = block.attn
        assert isinstance(attention, (PromptedAttention, PromptedWindowAttention))
        if config.init == "patch":
            init_visual_from_tokens(attention.prompts, tokens)
        if config.kv_init == "patch":
            k_norm = getattr(attention, "k_norm", nn.Identity())
            keys, values = keys_values(attention.qkv, k_norm, block.norm1(tokens), attention.num_heads)  # type: ignore[operator]
            init_key_value_from_tokens(attention.prompts, keys, values)


def _block_inputs(model: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Every block with the patch tokens [T, D] it sees, prompts switched off."""
    blocks = [module for module in model.modules() if isinstance(getattr(module, "attn", None), _PROMPTED)]
    prefix = getattr(model, "num_prefix_tokens", 0)
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        patches = x[:, prefix:] if x.dim() == 3 else x
        seen.append(patches.reshape(-1, x.shape[-1]))

    hooks = [block.register_forward_pre_hook(keep) for block in blocks]
    try:
        with disabled(model), evaluating(model):
            model.forward_features(images)  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
    return list(zip(blocks, seen, strict=True))


_PROMPTED = (PromptedAttention, PromptedWindowAttention)


def _make_prompts(
    site: Site, config: PromptConfig, num_visual: int, num_kv: int, backbone: nn.Module
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
    )
    height, width = backbone.patch_embed.patch_size  # type: ignore[union-attr, misc]
    init_visual(prompts, config.init, int(height) * int(width))
    init_key_value(prompts, config.kv_init)
    return prompts.to(next(site.attention.parameters()).device)


def _prompted(site: Site, prompts: BlockPrompts) -> nn.Module:
    """The site's attention with room for prompts, after proof that it computes the same without them."""
    attention, block = site.attention, site.block
    new: PromptedAttention | PromptedWindowAttention
    if isinstance(attention, Attention):
        new = PromptedAttention(attention, block, prompts)
    else:
        assert isinstance(attention, WindowAttention) and isinstance(block, SwinTransformerBlock)
        new = PromptedWindowAttention(attention, block, prompts)
    _probe(site, new)
    return new


@torch.no_grad()
def _probe(site: Site, new: nn.Module) -> None:
    """Compare old and new attention, without prompts, on a small random tensor."""
    weight = next(site.attention.parameters())
    if weight.is_meta:
        return
    tokens = getattr(site.attention, "window_area", 5)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, tokens, site.width, generator=generator).to(weight)
    prompts = new.prompts
    assert isinstance(prompts, BlockPrompts)
    prompts.enabled = False
    with evaluating(site.attention, new):
        expected, found = site.attention(x), new(x)
    prompts.enabled = True
    prompts.train(site.attention.training)
    scale = float(expected.abs().max()) + torch.finfo(weight.dtype).tiny
    difference = float((expected - found).abs().max()) / scale
    if not difference <= 100 * torch.finfo(weight.dtype).eps:
        raise UnsupportedBackbone(
            f"{site.path}.attn computes something else than the attention this version knows "
            f"(relative difference {difference:.1e}). This timm version or this model is not supported yet."
        )


def classifier(model: nn.Module) -> nn.Module:
    """The head of a timm model."""
    head: nn.Module = model.get_classifier()  # type: ignore[operator]
    return head


def _freeze(model: nn.Module) -> None:
    """Leave only prompts and head trainable."""
    model.requires_grad_(False)
    for part in [classifier(model), *prompt_layers(model)]:
        part.requires_grad_(True)
