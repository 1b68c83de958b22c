"""Command-line flags generated from the fields of the config dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_type_hints

import typer

from e2vpt.config import (
    DataConfig,
    GridConfig,
    MethodConfig,
    PromptConfig,
    PruneConfig,
    SearchConfig,
    TrainConfig,
)
from e2vpt.config.fields import Counts, Numbers

CONFIGS = {
    "prompts": PromptConfig,
    "options": MethodConfig,
    "data": DataConfig,
    "train": TrainConfig,
    "prune": PruneConfig,
    "grid": GridConfig,
    "search": SearchConfig,
}
_PANELS = {
    "prompts": "Prompts",
    "options": "Methods",
    "data": "Images",
    "train": "Training",
    "prune": "Pruning",
    "grid": "With --protocol paper",
    "search": "Search",
}


def with_config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """A command with parameters named as in CONFIGS, as one with a flag for each of those configs' fields."""
    parameters = inspect.signature(command, eval_str=True).parameters
    own = [p for name, p in parameters.items() if name not in CONFIGS]
    groups = [name for name in CONFIGS if name in parameters]
    generated = [_flag(group, field, hint) for group, field, hint in _fields(groups)]

    def wrapper(**values: Any) -> None:
        command(**{p.name: values[p.name] for p in own}, **configs_from(values, groups))

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__signature__ = inspect.Signature([*own, *generated])  # type: ignore[attr-defined]
    return wrapper


def configs_from(values: Mapping[str, Any], groups: Sequence[str] = tuple(CONFIGS)) -> dict[str, Any]:
    """The configs of some groups from flag values."""
    return {
        group: CONFIGS[group](**{f.name: values[f.name] for f in dataclasses.fields(CONFIGS[group])})
        for group in groups
    }


def parse_counts(text: str) -> Counts:
    """`10`, or one count per block as in `10,10,8,8`."""
    try:
        counts = tuple(int(part) for part in str(text).split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected a number, or numbers separated by commas.") from None
    return counts[0] if len(counts) == 1 else counts


def parse_numbers(text: str) -> Numbers:
    """Numbers, as in `0.9,0.5`; nothing for none."""
    try:
        return tuple(float(part) for part in str(text).split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected numbers separated by commas.") from None


_PARSERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    Counts: (parse_counts, "N[,N...]"),
    Numbers: (parse_numbers, "X[,X...]"),
}


def _fields(groups: Sequence[str]) -> list[tuple[str, dataclasses.Field[Any], Any]]:
    return [
        (group, field, get_type_hints(CONFIGS[group])[field.name])
        for group in groups
        for field in dataclasses.fields(CONFIGS[group])
    ]


def _flag(group: str, field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    parser, metavar = _PARSERS.get(hint, (None, None))
    option = typer.Option(
        help=field.metadata["help"],
        rich_help_panel=_PANELS[group],
        parser=parser,
        metavar=metavar,
    )
    default = field.default
    if parser is not None:
        default = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[hint if parser is None else Any, option],
    )
