"""What every config dataclass is made of: fields with help, checks, and a form in JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from e2vpt.errors import ConfigError

Counts = int | tuple[int, ...]
Numbers = tuple[float, ...]
HUGE = 1e300
"""Whole numbers beyond floats would overflow in comparisons with infinity."""

_LONGEST_SHOWN = 100

C = TypeVar("C")


def option(default: Any, text: str) -> Any:
    """A dataclass field whose help text the command line shows."""
    return field(default=default, metadata={"help": text})


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with a message unless a condition holds."""
    if not condition:
        raise ConfigError(message)


def check_choices(config: Any) -> None:
    """Hold every Literal field of a dataclass to its choices, and every bool field to the two it has.

    Numbers of NumPy and PyTorch become plain ones before.
    """
    for f in dataclasses.fields(config):
        object.__setattr__(config, f.name, _plain(getattr(config, f.name)))
    for name, hint in get_type_hints(type(config)).items():
        if hint is bool:
            value = getattr(config, name)
            require(isinstance(value, bool), f"{name} is {value!r}; expected True or False.")
        if get_origin(hint) is Literal:
            value = getattr(config, name)
            known = isinstance(value, str) and value in get_args(hint)
            require(known, f"{name} is {shown(value)}; expected one of {', '.join(get_args(hint))}.")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    is_number = getattr(value, "shape", None) == () and callable(getattr(value, "item", None))
    return value.item() if is_number else value


def shown(value: Any) -> str:
    """A value for a message: numbers of thousands of digits cannot even be printed."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of very many digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def check_count(name: str, value: Any, minimum: int, most: int = 2**63 - 1) -> None:
    """A whole number from `minimum` to `most`."""
    value = _plain(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(
        whole and value >= minimum,
        f"{name} is {shown(value)}; expected a whole number of at least {minimum}.",
    )
    require(value <= most, f"{name} is {shown(value)}; the most is {most}.")


def check_number(name: str, value: Any, low: float, high: float) -> None:
    """A finite number in [low, high)."""
    finite = _is_number(value) and abs(value) < HUGE
    require(
        finite and low <= value < high, f"{name} is {shown(value)}; expected a number in [{low}, {high})."
    )


def check_share(name: str, value: Any) -> None:
    """A number from 0 to 1."""
    within = _is_number(value) and 0 <= value <= 1
    require(within, f"{name} is {shown(value)}; expected a share from 0 to 1.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_kept(name: str, value: Any) -> None:
    """A share of visual prompts that pruning keeps: it leaves a part of one in every block."""
    check_share(name, value)
    require(value > 0, f"{name} is 0; pruning always keeps a little, and num_visual 0 trains without any.")


def as_tuple(counts: Counts) -> tuple[int, ...]:
    """One count or several, as several."""
    return counts if isinstance(counts, tuple) else (counts,)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values (tuples become lists)."""
    values = dataclasses.asdict(config)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """A config from plain JSON values.

    Raises:
        ConfigError: an unknown field, a missing or wrong type, or a value out of range.
    """
    known = {f.name for f in dataclasses.fields(cast(Any, cls))}
    unknown = sorted(set(values) - known)
    require(
        not unknown,
        f"{cls.__name__} has no field {', '.join(map(repr, unknown))}; it has {', '.join(sorted(known))}.",
    )
    made: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    _check_types(cls, made)
    return cls(**made)


def _check_types(cls: type[Any], values: Mapping[str, Any]) -> None:
    """Hold JSON values to the plain types of the fields; the class itself checks choices and ranges."""
    for f in dataclasses.fields(cls):
        if f.name in values and isinstance(f.default, (bool, float, str)):
            value = values[f.name]
            expected: tuple[type, ...] = (float, int) if isinstance(f.default, float) else (type(f.default),)
            fits = isinstance(value, expected) and (isinstance(value, bool) == isinstance(f.default, bool))
            require(fits, f"{cls.__name__}.{f.name} is {value!r}; expected {expected[0].__name__}.")
