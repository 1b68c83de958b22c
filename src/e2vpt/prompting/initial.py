"""How prompts start: drawn by chance, or from patch tokens of training images.

Shapes: p visual prompts, m key-value prompts, D model width, H heads, d head width, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.config import PromptConfig
from e2vpt.config.prompts import KeyValueInit, VisualInit
from e2vpt.errors import ConfigError, check_type
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.parts import disabled, evaluating, find_prompts
from e2vpt.prompting.prompts import BlockPrompts

NEEDS_IMAGES = (
    "These prompts are to start from patch tokens of training images (init='patch' or kv_init='patch') and "
    "have seen none. Call e2vpt.init_from_images(model, images) before training, load trained prompts, or "
    "use PromptConfig(init='uniform', kv_init='kaiming')."
)
"""What to say where `waits_for_images` is true of a model that is about to be trained."""

_TOKEN_RMS = 0.2
"""Root mean square of a visual prompt that starts from a patch token."""
_NO_TOKEN = 1e-12


@torch.no_grad()
def init_visual(prompts: BlockPrompts, how: VisualInit, patch_area: int, first_width: int) -> None:
    """Initialise visual prompts [p, D] from the global random state.

    `uniform` is the official ±sqrt(6 / (3·patch² + D)) (VPT, reference.md section 2), with the width D of the
    model's first block: a Swin has one bound for all of its stages. `patch` draws the same, and the prompts
    wait for `init_from_images`.
    """
    if prompts.visual is None:
        return
    prompts.waits_for_images |= how == "patch"
    if how == "zeros":
        prompts.visual.zero_()
    elif how == "normal":
        prompts.visual.normal_(std=0.02)
    else:
        bound = math.sqrt(6.0 / (3 * patch_area + first_width))
        prompts.visual.uniform_(-bound, bound)


@torch.no_grad()
def init_key_value(prompts: BlockPrompts, how: KeyValueInit) -> None:
    """Initialise key-value prompts [H, m, d] from the global random state.

    `kaiming` is Kaiming uniform with fan-in m·d (reference.md section 2). `patch` draws the same, and the
    prompts wait for `init_from_images`.
    """
    if prompts.key is None or prompts.value is None:
        return
    prompts.waits_for_images |= how == "patch"
    for tensor in [prompts.key] if prompts.key is prompts.value else [prompts.key, prompts.value]:
        if how == "zeros":
            tensor.zero_()
        elif how == "normal":
            tensor.normal_(std=0.02)
        else:
            nn.init.kaiming_uniform_(tensor)


@torch.no_grad()
def init_visual_from_tokens(prompts: BlockPrompts, tokens_TD: Tensor) -> None:
    """Set the visual prompts to p of the T patch tokens [T, D] at this block's input, drawn at random.

    A deep prompt only meets the block's LayerNorm, which undoes its scale, while Adam's steps do not follow
    it: its size says how fast its direction turns. So all get the same (docs/diary.md).
    """
    if prompts.visual is None:
        return
    drawn = tokens_TD[_draw(len(tokens_TD), prompts.num_visual)]
    if not prompts.travels:
        # Squares of activations are more than fp16 holds.
        drawn = drawn.to(torch.promote_types(drawn.dtype, torch.float32))
        drawn = drawn * (_TOKEN_RMS / drawn.square().mean(-1, keepdim=True).sqrt().clamp_min(_NO_TOKEN))
    prompts.visual.copy_(drawn)


@torch.no_grad()
def init_key_value_from_tokens(prompts: BlockPrompts, keys_HTd: Tensor, values_HTd: Tensor) -> None:
    """Set the key-value prompts to projected patch tokens, keys and values each [H, T, d].

    A shared tensor has to serve as both, so it gets the mean of a token's key and value.
    """
    if prompts.key is None or prompts.value is None:
        return
    chosen = _draw(keys_HTd.shape[1], prompts.num_kv)
    keys, values = keys_HTd[:, chosen], values_HTd[:, chosen]
    if prompts.key is prompts.value:
        prompts.key.copy_((keys + values) / 2)
    else:
        prompts.key.copy_(keys)
        prompts.value.copy_(values)


def _draw(available: int, wanted: int) -> Tensor:
    if available < wanted:
        raise ConfigError(
            f"init='patch' needs at least {wanted} patch tokens and saw {available}; give it more images, "
            "or use init='uniform' and kv_init='kaiming'."
        )
    return torch.randperm(available)[:wanted]


@torch.no_grad()
def init_from_images(model: nn.Module, images: Tensor) -> None:
    """Initialise prompts whose config says `patch` from real patch tokens of training images [B, 3, h, w].

    The frozen backbone runs once without prompts; each block's visual prompts become patch tokens seen at
    its input, its key-value prompts their projected keys and values. Draws from the global random state.

    Raises:
        ConfigError: no prompts that start from images, too few patch tokens, or images of another shape.
    """
    check_type("images", images, Tensor)
    if images.dim() != 4:
        raise ConfigError(
            f"images have shape {list(images.shape)}; expected [n, 3, h, w], as the model takes them."
        )
    config = getattr(model, "prompt_config", None)
    if not isinstance(config, PromptConfig):
        raise ConfigError("This model has no prompts; call e2vpt.prompt(backbone, config) first.")
    if "patch" not in (config.init, config.kv_init):
        raise ConfigError(
            f"Prompts with init={config.init!r} and kv_init={config.kv_init!r} do not start from images. Use "
            "PromptConfig(init='patch'), or e2vpt.config.RECIPE_PROMPTS, as `train` does."
        )

    def visit(block: nn.Module, tokens_TD: Tensor) -> None:
        attention: Any = block.attn
        if config.init == "patch":
            init_visual_from_tokens(attention.prompts, tokens_TD)
        if config.kv_init == "patch":
            init_key_value_from_tokens(attention.prompts, *attention.keys_values(tokens_TD))
        attention.prompts.waits_for_images = False

    _visit_block_inputs(model, images, visit)


def waits_for_images(model: nn.Module) -> bool:
    """Whether prompts of this model are still to start from training images (`NEEDS_IMAGES` says what to do).

    That is after `prompt` with `init="patch"`, until `init_from_images` or until tensors are loaded.
    """
    return any(layer.waits_for_images for layer in find_prompts(model))


def _visit_block_inputs(model: nn.Module, images: Tensor, visit: Callable[[nn.Module, Tensor], None]) -> None:
    """Show every block with the patch tokens [T, D] it sees, prompts switched off.

    One block at a time: the tokens of all blocks together would take gigabytes.
    """
    prefix = getattr(model, "num_prefix_tokens", 0)

    def look(block: nn.Module, args: tuple[Tensor, ...]) -> None:
        patches = args[0][:, prefix:] if args[0].dim() == 3 else args[0]
        visit(block, patches.reshape(-1, patches.shape[-1]))

    blocks = [m for m in model.modules() if isinstance(getattr(m, "attn", None), AttentionWithPrompts)]
    hooks = [block.register_forward_pre_hook(look) for block in blocks]
    try:
        with disabled(model), evaluating(model):
            model.forward_features(images)  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
