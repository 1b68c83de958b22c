"""The methods of the paper's tables. One contract: a model whose `requires_grad` says what is tuned.

Each is made from a plain timm ViT or Swin, trains in `fit`, and lies in an adapter file: prompts and head as
always, everything else that is tuned under its own name (`tuned_parameters`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from e2vpt.backbones.load import fingerprint
from e2vpt.config.settings import MethodConfig, PromptConfig
from e2vpt.errors import ConfigError
from e2vpt.methods.bottleneck import Bottleneck, Followed, SideNetwork
from e2vpt.methods.peft import PEFT_METHODS, inject
from e2vpt.prompting.install import classifier, find_prompts, prompt, prompt_layers
from e2vpt.prompting.sites import find_sites

Method = Literal[
    "e2vpt",
    "vpt-deep",
    "vpt-shallow",
    "kv",
    "linear",
    "full",
    "partial",
    "mlp",
    "bias",
    "layernorm",
    "adapter",
    "sidetune",
    "lora",
    "dora",
    "loha",
    "lokr",
    "oft",
    "ia3",
]
METHODS: tuple[Method, ...] = get_args(Method)
_OWN_LR: Mapping[str, float] = {
    "linear": 5e-3,
    "full": 3e-4,
    "partial": 3e-3,
    "mlp": 3e-3,
    "bias": 2e-2,
    "layernorm": 2e-2,
    "adapter": 1e-2,
    "sidetune": 1e-2,
    "vpt-shallow": 2e-3,
    "kv": 4e-2,
    **dict.fromkeys(PEFT_METHODS, 1e-2),
    "loha": 3e-2,
    "lokr": 3e-2,
    "ia3": 1e-1,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """What `adapt` made of a backbone; the model's attribute `adapted`.

    Attributes:
        method, options, prompts: as asked for, `auto` made plain; no prompts for a method without them.
        num_blocks: of the backbone.
        fingerprint: of its weights as they were, where the method may change them; "" where they stay.
    """

    method: str
    options: MethodConfig
    prompts: PromptConfig
    num_blocks: int
    fingerprint: str


def adapted_as(model: nn.Module) -> Adapted:
    """How a model was made: by `adapt`, or by `prompt` alone.

    Raises:
        ConfigError: by neither.
    """
    adapted = getattr(model, "adapted", None)
    if isinstance(adapted, Adapted):
        return adapted
    config = getattr(model, "prompt_config", None)
    if not isinstance(config, PromptConfig):
        raise ConfigError("This model has no prompts; call e2vpt.prompt(backbone, config) first.")
    return Adapted(
        method="e2vpt",
        options=MethodConfig(beside="none"),
        prompts=config,
        num_blocks=len(prompt_layers(model)),
        fingerprint="",
    )


def original_fingerprint(model: nn.Module) -> str:
    """The fingerprint of the backbone a model was made of, whatever was tuned since."""
    return adapted_as(model).fingerprint or fingerprint(model)


def adapt(
    backbone: nn.Module,
    method: str,
    prompts: PromptConfig | None = None,
    options: MethodConfig | None = None,
    *,
    weights: str = "",
) -> nn.Module:
    """A plain backbone made ready for a method; changes and returns it. The head is always tuned.

    Initial values come from the global random state. `prompts` is for the methods with prompts, which take of
    it what is theirs. `weights` is the backbone's fingerprint, where it is known already.

    Raises:
        ConfigError: an unknown method, or settings that do not fit the backbone.
        UnsupportedBackbone: not a ViT or Swin that this version knows.
        MissingExtra: a method of PEFT without PEFT.
    """
    asked = prompts or PromptConfig()
    options = _resolved(options or MethodConfig(), method, asked)
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    own, num_blocks = prompts_of(method, asked), len(find_sites(backbone))
    stays = own is not None and options.beside == "none"
    before = "" if stays else weights or fingerprint(backbone)
    if own is not None:
        prompt(backbone, own)
    else:
        backbone.requires_grad_(False)
        if method in PEFT_METHODS:
            inject(backbone, method, options)
        else:
            _TUNE[method](backbone, options)
    if options.beside != "none":
        (_tune_biases if options.beside == "bias" else _tune_norms)(backbone, options)
    classifier(backbone).requires_grad_(True)
    backbone.adapted = Adapted(  # type: ignore[assignment]
        method=method,
        options=options,
        prompts=own or PromptConfig(num_visual=0, num_kv=0),
        num_blocks=num_blocks,
        fingerprint=before,
    )
    return backbone


def own_lr(method: str, prompts: PromptConfig) -> float:
    """A method's learning rate for AdamW and batches of 64 (docs/results.md).

    Deep prompts that start from patch tokens bear a higher one than those that start from chance.
    """
    starts = {"e2vpt": prompts.init, "vpt-deep": prompts.init, "kv": prompts.kv_init}
    if starts.get(method) == "patch":
        return 1e-2
    return _OWN_LR.get(method, 5e-3)


def _resolved(options: MethodConfig, method: str, prompts: PromptConfig) -> MethodConfig:
    """`auto` made plain: prompts and biases add up (docs/results.md), but the method's peers stay themselves,
    and what comes before the first prompted block stays as it is."""
    if options.beside != "auto":
        return options
    return dataclasses.replace(
        options, beside="bias" if method == "e2vpt" and not prompts.first_block else "none"
    )


def prompts_of(method: str, asked: PromptConfig) -> PromptConfig | None:
    """The prompts of a method, or None for one that has no room for prompts."""
    none: dict[str, Any] = {"num_visual": 0, "num_kv": 0, "visual_depth": "deep", "kv_depth": "deep"}
    only: dict[str, dict[str, Any]] = {
        "e2vpt": {},
        "vpt-deep": {"num_kv": 0, "visual_depth": "deep"},
        "vpt-shallow": {"num_kv": 0, "visual_depth": "shallow", "first_block": 0},
        "kv": {"num_visual": 0, "visual_depth": "deep"},
        "linear": {**none, "first_block": 0},
    }
    return dataclasses.replace(asked, **only[method]) if method in only else None


def tuned_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What is tuned beside prompts and head, by name."""
    parts = [classifier(model), *find_prompts(model)]
    known = {id(p) for part in parts for p in part.parameters()}
    return {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in known}


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
    return [model.norm, *([model.fc_norm] if isinstance(model, VisionTransformer) else [])]


def _tune_biases(model: nn.Module, _: MethodConfig) -> None:
    """Every bias of the backbone (BitFit, arXiv 2106.10199)."""
    for name, parameter in model.named_parameters():
        if name.split(".")[-1] == "bias":
            parameter.requires_grad_(True)


def _tune_norms(model: nn.Module, _: MethodConfig) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.requires_grad_(True)


def _add_hidden_layers(model: Any, options: MethodConfig) -> None:
    """A head of k layers: k - 1 hidden ones stand where timm's head has its dropout."""
    holder, name = (model, "head_drop") if isinstance(model, VisionTransformer) else (model.head, "drop")
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


class SideForward:
    """`forward` of a backbone with a side network: [B, 3, h, w] -> [B, C].

    A method of an object that holds its model, so that it follows deepcopy and pickle.
    """

    def __init__(self, model: nn.Module) -> None:
        # timm types its children as Tensor | Module.
        self.model: Any = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of the blended feature."""
        model = self.model
        feature = model.forward_head(model.forward_features(x), pre_logits=True)
        logits: Tensor = classifier(model)(model.side(x, feature))
        return logits


_TUNE: dict[str, Callable[[nn.Module, MethodConfig], None]] = {
    "full": _tune_all,
    "partial": _tune_last_blocks,
    "mlp": _add_hidden_layers,
    "bias": _tune_biases,
    "layernorm": _tune_norms,
    "adapter": _add_adapters,
    "sidetune": _add_side_network,
}
