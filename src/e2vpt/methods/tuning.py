"""What a method without prompts tunes, or puts into the backbone, beside the head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention
from torch import nn

from e2vpt.backbones.families import is_swin
from e2vpt.config import MethodConfig
from e2vpt.errors import ConfigError
from e2vpt.methods.bottleneck import Bottleneck, Followed
from e2vpt.methods.projections import call_projections
from e2vpt.methods.side import SideForward, SideNetwork
from e2vpt.prompting.parts import classifier
from e2vpt.prompting.sites import find_sites, is_of_positions
from e2vpt.prompting.tuned_linear import TunedLinear, with_scale, without_key_bias


def _tune_all(model: nn.Module, _: MethodConfig) -> None:
    model.requires_grad_(True)


def _tune_last_blocks(model: nn.Module, options: MethodConfig) -> None:
    blocks = [site.block for site in find_sites(model)]
    if options.partial_blocks > len(blocks):
        raise ConfigError(
            f"partial_blocks is {options.partial_blocks}; the backbone has {len(blocks)} blocks."
        )
    for part in [*blocks[len(blocks) - options.partial_blocks :], *_final_norms(model)]:
        part.requires_grad_(True)


def _final_norms(model: Any) -> list[nn.Module]:
    return [norm for norm in (model.norm, getattr(model, "fc_norm", None)) if norm is not None]


# EVA-02 and DINOv3 have those of queries and values beside a projection that has none.
_BIASES = ("bias", "q_bias", "v_bias")


def _tune_biases(model: nn.Module, _: MethodConfig) -> None:
    """Every bias of the backbone (BitFit, arXiv 2106.10199)."""
    for name, parameter in model.named_parameters():
        if name.split(".")[-1] in _BIASES and not is_of_positions(name):
            parameter.requires_grad_(True)


def _tune_biases_with_effect(model: nn.Module, options: MethodConfig) -> None:
    """Every bias but those of keys, where no softmax sees them: all keys of the block have the same.

    Rotated by position, no two have the same.
    """
    for module in model.modules():
        if isinstance(module, (Attention, WindowAttention)) and _has_idle_key_bias(module):
            module.qkv = without_key_bias(module.qkv)
    _tune_biases(model, options)


def _has_idle_key_bias(attention: Attention | WindowAttention) -> bool:
    """Key-value prompts are keys without a bias; norms of keys, and what PEFT puts around, come after it."""
    prompts, k_norm = getattr(attention, "prompts", None), getattr(attention, "k_norm", nn.Identity())
    # With a gate they have a softmax of their own, which visual prompts share.
    is_apart = prompts is not None and prompts.gate is not None and not prompts.num_visual
    all_alike = prompts is None or not prompts.num_kv or is_apart
    plain = type(attention.qkv) is nn.Linear and attention.qkv.bias is not None
    return all_alike and plain and isinstance(k_norm, nn.Identity)


def _tune_norms(model: nn.Module, _: MethodConfig) -> None:
    """Every LayerNorm of the backbone."""
    for norm in _layer_norms(model):
        norm.requires_grad_(True)


def _layer_norms(model: nn.Module) -> list[nn.Module]:
    """Those that have parameters."""
    return [
        module for module in model.modules() if isinstance(module, nn.LayerNorm) and module.elementwise_affine
    ]


def _tune_biases_and_norms(model: nn.Module, options: MethodConfig) -> None:
    _tune_biases_with_effect(model, options)
    _tune_norms(model, options)


def _tune_biases_and_scales(model: nn.Module, options: MethodConfig) -> None:
    """Biases, and scales of the outputs of every frozen linear layer (SSF, arXiv 2210.08823)."""
    _tune_biases_with_effect(model, options)
    frozen = [
        (parent, name, child)
        for path, parent in model.named_modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
        and not is_of_positions(path)
        and type(child) in (nn.Linear, TunedLinear)
        and not child.weight.requires_grad
    ]
    if not frozen:
        raise ConfigError(
            "beside is 'scale'; this method leaves no linear layer frozen whose outputs to scale."
        )
    call_projections(model)
    for parent, name, child in frozen:
        setattr(parent, name, with_scale(child))


def _add_hidden_layers(model: Any, options: MethodConfig) -> None:
    """A head of k layers: k - 1 hidden ones stand where timm's head has its dropout."""
    holder, name = (model.head, "drop") if is_swin(model) else (model, "head_drop")
    width: Any = classifier(model).in_features
    hidden: list[nn.Module] = []
    for _ in range(options.mlp_layers - 1):
        hidden += [nn.Linear(width, width), nn.ReLU()]
    setattr(holder, name, nn.Sequential(*hidden).to(next(model.parameters())))


def _add_adapters(model: nn.Module, options: MethodConfig) -> None:
    """Behind the MLP (Pfeiffer, arXiv 2005.00247), and with `houlsby` behind the attention too."""
    for site in find_sites(model):
        block: Any = site.block
        for name in ("attn", "mlp") if options.adapter_places == "houlsby" else ("mlp",):
            adapter = Bottleneck(site.width, options.adapter_width).to(next(block.parameters()))
            setattr(block, name, Followed(getattr(block, name), adapter))


def _add_side_network(model: Any, _: MethodConfig) -> None:
    width: Any = classifier(model).in_features
    model.side = SideNetwork(width).to(next(model.parameters()))
    model.forward = SideForward(model).forward


def check_tunable(model: Any, method: str, beside: str) -> None:
    """See that a plain backbone has what a method tunes, or stands on.

    Raises:
        ConfigError: it has not.
    """
    asked, instead = f"beside is {beside!r}", "beside='scale' or 'none'"
    if method == "layernorm":
        asked, instead = "method is 'layernorm'", "another method, such as 'e2vpt' or 'lora'"
    if (method == "layernorm" or beside in ("norm", "gamma")) and not _layer_norms(model):
        others = sorted({type(module).__name__ for module in model.modules() if _is_norm(module)})
        raise ConfigError(
            f"{asked}, which tunes LayerNorms; this backbone has none with parameters, but "
            f"{' and '.join(others) or 'no norm at all'}. Choose {instead}."
        )
    if method in ("mlp", "sidetune") and not isinstance(classifier(model), nn.Linear):
        raise ConfigError(
            f"method is {method!r}, which needs a linear head; this backbone has none. Make it with "
            "num_classes, the number of your classes."
        )


def _is_norm(module: nn.Module) -> bool:
    has_weight = isinstance(getattr(module, "weight", None), nn.Parameter)
    return has_weight and "norm" in type(module).__name__.lower()


TUNE: dict[str, Callable[[nn.Module, MethodConfig], None]] = {
    "full": _tune_all,
    "partial": _tune_last_blocks,
    "mlp": _add_hidden_layers,
    "bias": _tune_biases,
    "layernorm": _tune_norms,
    "adapter": _add_adapters,
    "sidetune": _add_side_network,
}
BESIDE: dict[str, Callable[[nn.Module, MethodConfig], None]] = {
    "bias": _tune_biases_with_effect,
    "norm": _tune_norms,
    "gamma": _tune_biases_and_norms,
    "scale": _tune_biases_and_scales,
}
"""What `beside` adds to a method; the head is trained already."""
