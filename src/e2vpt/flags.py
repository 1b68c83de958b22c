"""Command-line flags generated from the fields of the config dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import typer

from e2vpt.config import Counts, DataConfig, PromptConfig, TrainConfig

CONFIGS = {"prompts": PromptConfig, "data": DataConfig, "train": TrainConfig}
_PANELS = {"prompts": "Prompts", "data": "Images", "train": "Training"}


def with_config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """A command of configs `prompts`, `data` and `train`, as one with a flag for each of their fields."""
    own = [
        p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name not in CONFIGS
    ]
    generated = [_flag(group, field, hint) for group, field, hint in _fields()]

    def wrapper(**values: Any) -> None:
        command(**{p.name: values[p.name] for p in own}, **configs_from(values))

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__signature__ = inspect.Signature([*own, *generated])  # type: ignore[attr-defined]
    return wrapper


def configs_from(values: Mapping[str, Any]) -> dict[str, Any]:
    """The three configs from flag values."""
    return {
        group: cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})
        for group, cls in CONFIGS.items()
    }


def parse_counts(text: str) -> Counts:
    """`10`, or one count per block as in `10,10,8,8`."""
    try:
        counts = tuple(int(part) for part in str(text).split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected a number, or numbers separated by commas.") from None
    return counts[0] if len(counts) == 1 else counts


def _fields() -> list[tuple[str, dataclasses.Field[Any], Any]]:
    return [
        (group, field, get_type_hints(cls)[field.name])
        for group, cls in CONFIGS.items()
        for field in dataclasses.fields(cls)
    ]


def _flag(group: str, field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    is_counts = hint == Counts
    option = typer.Option(
        help=field.metadata["help"],
        rich_help_panel=_PANELS[group],
        parser=parse_counts if is_counts else None,
        metavar="N[,N...]" if is_counts else None,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=str(field.default) if is_counts else field.default,
        annotation=Annotated[Any if is_counts else hint, option],
    )
