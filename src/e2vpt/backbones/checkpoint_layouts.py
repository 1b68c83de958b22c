"""Where a checkpoint holds its backbone: below which entries, behind which prefix, beside what else.

Layouts: timm's own, the original Swin release, MAE with or without its decoder, MoCo v3 with or without its
momentum encoder, and any of them inside a larger model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from e2vpt.errors import WeightsError, some

WeightTensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointLayout:
    """How a checkpoint holds a backbone beside other things.

    Attributes:
        marker: a key that starts so tells this layout.
        prefix: what stands before the backbone's own names.
        ignored: starts of keys that belong to no backbone.
    """

    marker: str
    prefix: str = ""
    ignored: tuple[str, ...] = ()


_LAYOUTS = (
    CheckpointLayout(  # MoCo v3 pre-training; its file for linear evaluation has plain names
        marker="base_encoder.",
        prefix="base_encoder.",
        ignored=("base_encoder.head.", "momentum_encoder.", "predictor."),
    ),
    CheckpointLayout(marker="decoder_", ignored=("decoder_", "mask_token")),  # MAE with its decoder
    CheckpointLayout(marker="backbone.", prefix="backbone.", ignored=("head.", "backbone.head.")),
    CheckpointLayout(marker=""),
)
_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_WRAPPERS = ("_orig_mod.", "module.", "model.", "backbone.")


def tensors_in(content: object, path: Path) -> WeightTensors:
    """The tensors in what a file held, out of the dictionaries around them.

    Raises:
        WeightsError: there are none.
    """
    for _ in _CONTAINERS:  # bounded: a hostile file may nest a dictionary in itself
        if not isinstance(content, Mapping):
            break
        inner = [content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    entries = dict(content) if isinstance(content, Mapping) else {}
    if entries and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entries.items()):
        return entries
    found = f"the entries {some(map(str, entries))}" if entries else f"a {type(content).__name__}"
    raise WeightsError(
        f"{path} holds no weights that are known here: found {found}, expected a dictionary of tensors, "
        f"plain or under {', '.join(_CONTAINERS)}. Save model.state_dict() of the trained model."
    )


def backbone_names(state: WeightTensors, path: Path) -> WeightTensors:
    """The same tensors by the names of their backbone alone.

    Raises:
        WeightsError: one name stands twice, with and without its prefix.
    """
    while prefix := next(
        (prefix for prefix in _WRAPPERS if all(key.startswith(prefix) for key in state)), ""
    ):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    layout = next(layout for layout in _LAYOUTS if any(key.startswith(layout.marker) for key in state))
    kept = [key for key in state if not key.startswith(layout.ignored)]
    renamed = {key.removeprefix(layout.prefix): state[key] for key in kept}
    if len(renamed) < len(kept):
        raise WeightsError(
            f"{path} holds tensors twice, with and without '{layout.prefix}' before their names; "
            "save the backbone alone."
        )
    return renamed
