"""Words and numbers of a header, one by one: what may be printed, looked up and counted on."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"[\w.+\-]{0,200}", re.ASCII)
_HUB_NAME = re.compile(r"hf-hub:[\w.\-]{1,96}(/[\w.\-]{1,96})?(@[\w.\-/]{1,100})?", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def names_problem(names: Sequence[object]) -> str:
    """What keeps these from being class names, or nothing: they are printed on terminals and pages."""
    if not names:
        return "there are none"
    for name in names:
        if not isinstance(name, str) or not name or len(name) > 500 or not all(map(_is_fit, name)):
            return f"{name!r} is not a printable name of 1 to 500 characters"
    return "" if len(set(names)) == len(names) else "two classes have the same name"


def checked_classes(value: object) -> tuple[str, ...]:
    """A list of class names.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, list):
        raise ValueError(f"classes is a {type(value).__name__}; expected a list of names.")
    problem = names_problem(value)
    if problem:
        raise ValueError(f"classes: {problem}.")
    return tuple(value)


def checked_word(value: object) -> str:
    """A name that is safe to print and to look up: letters, digits, dot, plus, dash, underscore.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(f"{value!r} was found where letters, digits, '.', '+', '-', '_' are expected.")
    return value


def checked_backbone(value: object) -> str:
    """The name of a backbone: of timm, of a preset, or of a repository on the Hub.

    Raises:
        ValueError: it is none.
    """
    return value if isinstance(value, str) and _HUB_NAME.fullmatch(value) else checked_word(value)


def checked_fingerprint(value: object) -> str:
    """A sha256 in hex.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        raise ValueError(f"fingerprint is {value!r}; expected 64 digits in hex.")
    return value


def checked_metric(name: str, value: object) -> float:
    """A finite number; an accuracy is a share, and neither losses nor epochs are below zero.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise ValueError(f"a metric is {value!r}; expected a finite number.")
    least, most = 0.0 if name.endswith(("accuracy", "loss", "epoch")) else -1e300, 1e300
    if not least <= value <= (1.0 if name.endswith("accuracy") else most):
        raise ValueError(
            f"the metric {name} is {value!r}; expected an accuracy from 0 to 1, no loss below 0."
        )
    return float(value)


def _is_fit(character: str) -> bool:
    """Printable, or one of the spaces and joiners that names in many languages need."""
    return character.isprintable() or character in "\u200c\u200d" or unicodedata.category(character) == "Zs"
