"""A plain backbone made ready for a method. One contract: a model whose `requires_grad` says what is tuned.

Each is made from a plain timm vision transformer, trains in `fit`, and lies in an adapter file: prompts and
head as always, everything else that is tuned under its own name (`tuned_parameters`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.errors import ConfigError, check_type
from e2vpt.methods.names import PEFT_METHODS, check_method, prompts_of
from e2vpt.methods.peft import inject
from e2vpt.methods.tuning import BESIDE, TUNE, check_tunable
from e2vpt.prompting.install import prompt
from e2vpt.prompting.parts import classifier, prompt_layers, tuned_parameters
from e2vpt.prompting.restoring import keep_values, remember
from e2vpt.prompting.sites import find_sites


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """What `adapt` made of a backbone; the model's attribute `adapted`.

    Attributes:
        method, options, prompts: as asked for, `auto` made plain; no prompts for a method without them.
        num_blocks: of the backbone.
        fingerprint: of its weights as they were, where the method may change them; "" where they stay.
        tuned: names of what is tuned beside prompts and head.
    """

    method: str
    options: MethodConfig
    prompts: PromptConfig
    num_blocks: int
    fingerprint: str
    tuned: tuple[str, ...]


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
        tuned=(),
    )


def is_adapted(model: nn.Module) -> bool:
    """Whether `adapt` or `prompt` made the model."""
    return hasattr(model, "adapted") or hasattr(model, "prompt_config")


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
        UnsupportedBackbone: not a vision transformer that this version knows.
        MissingExtra: a method of PEFT without PEFT.
    """
    asked = PromptConfig() if prompts is None else prompts
    options = MethodConfig() if options is None else options
    for what, value, kind in (("prompts", asked, PromptConfig), ("options", options, MethodConfig)):
        check_type(what, value, kind)
    check_method(method)
    options = _resolved(options, method, asked)
    own, num_blocks = prompts_of(method, asked), len(find_sites(backbone))
    check_tunable(backbone, method, options.beside)
    stays = own is not None and options.beside == "none"
    before = "" if stays else weights or fingerprint(backbone)
    remember(backbone)
    if own is not None:
        prompt(backbone, own)
    else:
        backbone.requires_grad_(False)
        if method in PEFT_METHODS:
            inject(backbone, method, options)
        else:
            TUNE[method](backbone, options)
    classifier(backbone).requires_grad_(True)
    if options.beside != "none":
        BESIDE[options.beside](backbone, options)
    keep_values(backbone, tuned_parameters(backbone))
    backbone.adapted = Adapted(  # type: ignore[assignment]
        method=method,
        options=options,
        prompts=own or PromptConfig(num_visual=0, num_kv=0),
        num_blocks=num_blocks,
        fingerprint=before,
        tuned=tuple(tuned_parameters(backbone)),
    )
    return backbone


def _resolved(options: MethodConfig, method: str, prompts: PromptConfig) -> MethodConfig:
    """`auto` made plain: prompts, biases and scales add up (docs/results.md), but the method's peers stay
    themselves, and what comes before the first prompted block stays as it is."""
    if options.beside != "auto":
        return options
    return dataclasses.replace(
        options, beside="scale" if method == "e2vpt" and not prompts.first_block else "none"
    )
