"""Command-line flags generated from the fields of the config dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperOption

from e2vpt.config.fields import Counts, Numbers
from e2vpt.config.groups import GROUPS, configs_from, refuse_idle
from e2vpt.config.recipes import recipe_groups

_PANELS = {
    "prompts": "Prompts",
    "options": "Methods",
    "data": "Images",
    "train": "Training",
    "prune": "Pruning",
    "grid": "With --protocol paper",
    "search": "Search",
}


FIRST = {
    *("epochs", "batch_size", "lr", "precision", "seed", "image_size", "augment", "workers"),
    *("num_visual", "num_kv", "keep", "trials"),
}
"""Settings that most people ask for first; `--help` shows these, `--help-all` every one."""
NONE_IDLE: Mapping[str, str] = MappingProxyType({})


def with_recipe_flags(
    command: Callable[..., None], *, idle: Mapping[str, str] = NONE_IDLE
) -> Callable[..., None]:
    """As `with_config_flags`, but what the default recipe sets stands there until somebody says otherwise."""
    return with_config_flags(command, {**GROUPS, **recipe_groups("default")}, idle=idle)


def with_config_flags(
    command: Callable[..., None],
    defaults: Mapping[str, Any] = GROUPS,
    *,
    idle: Mapping[str, str] = NONE_IDLE,
) -> Callable[..., None]:
    """A command with parameters named as groups of settings, as one with a flag for each of their fields.

    A parameter `given` is no flag: it gets all that stood on the command line, by name. Flags in `idle`,
    those of the command itself too, change nothing: no help shows them, and giving one is refused for the
    reason there.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    own = [p for name, p in parameters.items() if name not in GROUPS and name != "given"]
    shown = [_hidden(p) if p.name in idle else p for p in own]
    groups = [name for name in GROUPS if name in parameters]
    generated = [_flag(group, field, hint, defaults, idle) for group, field, hint in _fields(groups)]
    names = [parameter.name for parameter in generated]

    def wrapper(ctx: typer.Context, **values: Any) -> None:
        given = {name: value for name, value in values.items() if _stood_there(ctx, name)}
        refuse_idle(given, idle)
        more = {"given": given} if "given" in parameters else {}
        configs = configs_from({name: values[name] for name in names}, groups)
        command(**{p.name: values[p.name] for p in own}, **configs, **more)

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    signature = inspect.Signature([context, *shown, *generated, _HELP_ALL])
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    return wrapper


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    """A flag that is understood, and that no help shows."""
    kind = get_args(parameter.annotation)[0]
    return parameter.replace(annotation=Annotated[kind, typer.Option(hidden=True)])


def _stood_there(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _show_all(ctx: typer.Context, value: bool) -> None:
    """Help with every flag."""
    if not value:
        return
    for parameter in ctx.command.params:
        if isinstance(parameter, TyperOption) and parameter.help:  # settings without effect here have none
            parameter.hidden = False
    text = ctx.get_help()
    if text:  # with Rich, it has been printed
        print(text)
    raise typer.Exit()


_HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show every flag and exit."),
    ],
)


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
        (group, field, get_type_hints(type(GROUPS[group]))[field.name])
        for group in groups
        for field in dataclasses.fields(GROUPS[group])
    ]


def _flag(
    group: str,
    field: dataclasses.Field[Any],
    hint: Any,
    defaults: Mapping[str, Any],
    idle: Collection[str],
) -> inspect.Parameter:
    parser, metavar = _PARSERS.get(hint, (None, None))
    option = typer.Option(
        help="" if field.name in idle else field.metadata["help"],
        rich_help_panel=_PANELS[group],
        parser=parser,
        metavar=metavar,
        hidden=field.name not in FIRST or field.name in idle,
    )
    default = getattr(defaults[group], field.name)
    if parser is not None:
        default = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[hint if parser is None else Any, option],
    )
