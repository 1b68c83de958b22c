"""Small backbones with every parameter random: timm's zero biases and unit norms would hide mistakes."""

from __future__ import annotations

import copy
import warnings
from typing import Any, TypeVar

import timm
import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import e2vpt

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
SMALL_EVA = {"depth": 2, "embed_dim": 48, "num_heads": 3}
SMALL_SWIN = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "drop_path_rate": 0.0}

NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("vit_tiny_patch16_224", {"depth": 2}),
    "384px": ("vit_tiny_patch16_384", SMALL | {"depth": 1}),
    "mae-avg": ("vit_base_patch16_224", SMALL | {"global_pool": "avg"}),
    "deit3-layer-scale": ("deit3_small_patch16_224", SMALL),
    "dinov2": ("vit_small_patch14_dinov2", SMALL | {"img_size": 112}),
    "dinov2-swiglu": ("vit_giant_patch14_dinov2", SMALL | {"img_size": 112}),
    "dinov2-registers": ("vit_small_patch14_reg4_dinov2", SMALL | {"img_size": 112}),
    "clip-pre-norm": ("vit_base_patch32_clip_224", SMALL),
    "clip-quickgelu": ("vit_base_patch32_clip_quickgelu_224", SMALL),
    "siglip-map": ("vit_base_patch16_siglip_224", SMALL),
    "siglip-gap": ("vit_base_patch16_siglip_gap_224", SMALL),
    "gap": ("vit_medium_patch16_gap_240", SMALL),
    "registers-gap": ("vit_medium_patch16_reg4_gap_256", SMALL),
    "registers-map": ("vit_so150m_patch16_reg4_map_256", SMALL),
    "beit3-scale-norm": ("beit3_base_patch16_224", SMALL),
    "qk-norm": ("vit_tiny_patch16_224", SMALL | {"qk_norm": True}),
    "swin-shifted": ("swin_tiny_patch4_window7_224", SMALL_SWIN),
    "swin-unshifted": ("swin_tiny_patch4_window7_224", SMALL_SWIN | {"depths": (1, 1, 1, 1)}),
    "swin-384px": ("swin_base_patch4_window12_384", SMALL_SWIN | {"depths": (2, 1, 1, 1)}),
    "swin-s3-mixed-windows": ("swin_s3_tiny_224", SMALL_SWIN | {"depths": (1, 1, 2, 1)}),
    "swinv2": ("swinv2_tiny_window8_256", SMALL_SWIN | {"img_size": 128}),
    "swinv2-cr-384px": (
        "swinv2_base_window12to24_192to384",
        SMALL_SWIN | {"depths": (2, 1, 1, 1), "img_size": 192},
    ),
    "beit": ("beit_base_patch16_224", SMALL),
    "beitv2": ("beitv2_base_patch16_224", SMALL | {"img_size": 112}),
    "dinov3-s": ("vit_small_patch16_dinov3", SMALL_EVA),
    "dinov3-s-plus": ("vit_small_patch16_dinov3_qkvb", SMALL_EVA),
    "dinov3-s-swiglu": ("vit_small_plus_patch16_dinov3_qkvb", SMALL_EVA),
    "dinov3-b": ("vit_base_patch16_dinov3", SMALL_EVA | {"global_pool": "token"}),
    "pe-core": ("vit_pe_core_base_patch16_224", SMALL_EVA),
    "pe-core-no-class-token": ("vit_pe_core_gigantic_patch14_448", SMALL_EVA | {"img_size": 112}),
    "pe-spatial": ("vit_pe_spatial_base_patch16_512", SMALL_EVA | {"img_size": 128}),
    "eva": ("eva_giant_patch14_224", SMALL_EVA | {"img_size": 112}),
    "eva02-separate": ("eva02_base_patch14_224", SMALL_EVA | {"img_size": 112}),
    "eva02-fused": ("eva02_tiny_patch14_224", SMALL_EVA | {"img_size": 112}),
    "eva02-scale-norm": ("eva02_base_patch16_clip_224", SMALL_EVA),
    "eva02-post-norm": ("eva02_enormous_patch14_clip_224", SMALL_EVA | {"img_size": 112}),
    "rope": ("vit_base_patch16_rope_224", SMALL_EVA),
    "rope-mixed-ape": ("vit_base_patch16_rope_mixed_ape_224", SMALL_EVA),
    "rope-registers": ("vit_medium_patch16_rope_reg1_gap_256", SMALL_EVA | {"img_size": 128}),
    "sapiens2": (
        "vit_base_patch16_sapiens2",
        SMALL_EVA | {"img_size": (128, 96), "num_heads": 6, "num_kv_heads": 2},
    ),
}


def randomise(model: nn.Module, seed: int = 1) -> nn.Module:
    """Give every parameter a random value of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() > 1:
                parameter.copy_(noise * (1.5 / max(parameter[0].numel(), 1) ** 0.5))
            else:
                parameter.copy_(0.5 + 0.4 * noise)
    return model


def named_backbone(key: str, dtype: torch.dtype = torch.float64, **overrides: Any) -> nn.Module:
    """A named timm model at a small size, random, in eval mode."""
    name, options = NAMED[key]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own
        model = timm.create_model(name, pretrained=False, **({"num_classes": 7} | options | overrides))
    return randomise(model).to(dtype).eval()


_TINY: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}
_TINY |= {"mlp_ratio": 2, "num_classes": 7}
_TINY_SWIN: dict[str, Any] = {"img_size": 32, "patch_size": 4, "embed_dim": 16, "depths": (2, 2)}
_TINY_SWIN |= {"num_heads": (2, 4), "window_size": 2, "mlp_ratio": 2.0, "drop_path_rate": 0.0}
_TINY_SWIN |= {"num_classes": 5}
Model = TypeVar("Model", bound=nn.Module)


def _tiny(kind: type[Model], dtype: torch.dtype, options: dict[str, Any]) -> Model:
    model = kind(**options)
    randomise(model).to(dtype).eval()
    return model


def tiny_vit(dtype: torch.dtype = torch.float64, **overrides: Any) -> VisionTransformer:
    """3 blocks, 17 tokens, width 48."""
    return _tiny(VisionTransformer, dtype, _TINY | overrides)


def tiny_swin(dtype: torch.dtype = torch.float64, **overrides: Any) -> SwinTransformer:
    """4 blocks in 2 stages; 16 windows an image in the first, 4 in the last, every second one shifted."""
    return _tiny(SwinTransformer, dtype, _TINY_SWIN | overrides)


def tiny_eva(dtype: torch.dtype = torch.float64, **overrides: Any) -> Eva:
    """As `tiny_vit`, queries and keys rotated; biases beside the projection."""
    return _tiny(Eva, dtype, _TINY | {"use_rot_pos_emb": True, "head_init_scale": 1.0} | overrides)


def tiny_beit(dtype: torch.dtype = torch.float64, **overrides: Any) -> Beit:
    """As `tiny_vit`; a bias by position in every block."""
    return _tiny(Beit, dtype, _TINY | {"use_rel_pos_bias": True, "init_values": 0.5} | overrides)


def tiny_swin_v2(dtype: torch.dtype = torch.float64, **overrides: Any) -> SwinTransformerV2:
    """As `tiny_swin`, of the second version."""
    return _tiny(SwinTransformerV2, dtype, _TINY_SWIN | overrides)


GROUPED = {"attn_type": "rope", "qkv_fused": False, "num_heads": 4, "num_kv_heads": 2, "qk_norm": True}
"""Of an Eva: two heads of queries for one of keys, three projections, norms of queries and keys."""


def prompted(backbone: nn.Module, seed: int = 2, **config: Any) -> nn.Module:
    """A prompted copy of the backbone, prompts random and of its dtype, every third keep element zero."""
    dtype = next(backbone.parameters()).dtype
    model = e2vpt.prompt(copy.deepcopy(backbone), e2vpt.PromptConfig(**config)).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in e2vpt.prompt_layers(model):
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            if layer.keep is not None:
                layer.keep.view(-1)[::3] = 0
    return model


def images_for(model: nn.Module, batch: int = 2, seed: int = 3) -> Tensor:
    """Random images of the model's size and dtype."""
    height, width = model.patch_embed.img_size
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)
    return images.to(next(model.parameters()).dtype)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    assert found.shape == expected.shape
    expected = expected.detach().double()
    return float((found.detach().double() - expected).abs().max() / expected.abs().max())


def tuned(model: nn.Module) -> dict[str, nn.Parameter]:
    """What requires grad, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def gradients(model: nn.Module, loss: Tensor, *, retain_graph: bool = True) -> dict[str, Tensor]:
    """d loss / d everything tuned, by name; zero where the loss does not depend on it."""
    parameters = tuned(model)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, retain_graph=retain_graph)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(parameters.items(), found, strict=True)
    }


def assert_same(
    model: nn.Module, found: Tensor, expected: Tensor, tolerance: float = 1e-12, seed: int = 5
) -> None:
    """Outputs and the gradients of a random projection of them."""
    assert relative(found, expected) < tolerance
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed)).to(found)
    ours, theirs = gradients(model, (found * weights).sum()), gradients(model, (expected * weights).sum())
    scale = max(float(g.abs().max()) for g in theirs.values())
    worst = {name: float((ours[name] - theirs[name]).abs().max()) / scale for name in theirs}
    assert {name: d for name, d in worst.items() if not d < tolerance} == {}


PROMPTS: dict[str, dict[str, Any]] = {
    "mixed": {"num_visual": 4, "num_kv": 3},
    "separate-kv": {"num_visual": 4, "num_kv": 3, "share_kv": False},
    "visual-only": {"num_visual": 4, "num_kv": 0},
    "kv-only": {"num_visual": 0, "num_kv": 3},
    "shallow": {"num_visual": 4, "num_kv": 3, "visual_depth": "shallow", "kv_depth": "shallow"},
    "shallow-visual": {"num_visual": 4, "num_kv": 3, "visual_depth": "shallow"},
}
"""Prompts of every kind, for models whose prompts stand in one sequence."""
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (tiny_vit, {}),
    "vit-avg": (lambda dtype=torch.float64: tiny_vit(dtype, qk_norm=True, global_pool="avg"), {}),
    "vit-shallow": (tiny_vit, {"visual_depth": "shallow", "share_kv": False}),
    "vit-gated": (tiny_vit, {"attention": "gated"}),
    "beit": (tiny_beit, {}),
    "beit-shallow": (tiny_beit, {"visual_depth": "shallow"}),
    "swin-v2": (tiny_swin_v2, {}),
    "swin-v2-shallow-pooled": (tiny_swin_v2, {"visual_depth": "shallow", "pool_prompts": True}),
    "eva": (tiny_eva, {}),
    "eva-grouped": (lambda dtype=torch.float64: tiny_eva(dtype, **GROUPED), {}),
    "eva-shallow": (tiny_eva, {"visual_depth": "shallow"}),
    "swin": (tiny_swin, {}),
    "swin-gated": (tiny_swin, {"attention": "gated"}),
    "swin-shallow-pooled": (tiny_swin, {"visual_depth": "shallow", "pool_prompts": True}),
}
"""Small models of every kind, and what their prompts are like."""
