"""Every exception this package raises on purpose, for users to catch.

    E2VPTError
    ├── ConfigError                 a setting that cannot be: wrong range, wrong combination (also ValueError)
    ├── BackboneError               a backbone that cannot be made or used (also ValueError)
    │   ├── UnsupportedBackbone     timm builds it, prompts cannot enter it
    │   └── WeightsError            a weights file or download that is missing, foreign or broken
    ├── DataError                   a data set that cannot be trained on (also ValueError)
    │   └── UnreadableImages        images that do not decode; `.problems` names each
    ├── AdapterError                an adapter file that cannot be used (also ValueError)
    │   ├── AdapterFormatError      truncated, altered, hostile, or of a newer format
    │   └── BackboneMismatch        made for another backbone
    ├── RunError                    a run folder that exists already or cannot be resumed (also RuntimeError)
    │   └── Diverged                a loss that is no longer a finite number
    ├── HubError                    a Hugging Face repository that cannot be used (also RuntimeError)
    ├── ExportError                 a model that cannot be exported, or whose file computes something else
    └── MissingExtra                an optional dependency is not installed (also ImportError)

Every message says what was found, what was expected and what to do about it.

    try:
        model, info = e2vpt.load_adapter("pets.safetensors", backbone=backbone)
    except e2vpt.errors.BackboneMismatch:
        ...
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

SHOWN = 20
"""How many names a message gives before it only counts."""
_BRIEF = 500
_TURN_THE_LINE = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """A name from a file as one line that is safe to print anywhere.

    Line breaks, control characters (a terminal's escapes), characters that turn the direction of writing, and
    bytes that were no UTF-8 become escapes such as `\\n`, `\\x1b` and `\\xff`; everything else stays.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # How Python holds a byte of a file name that is no UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    hidden = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURN_THE_LINE
    return character.encode("unicode_escape").decode() if hidden else character


def in_brief(text: str) -> str:
    """Words of a file for a message, as `visible` shows them, and at most 500 of their characters."""
    return visible(text if len(text) <= _BRIEF else f"{text[:_BRIEF]} ...")


def in_one_line(error: Exception) -> str:
    """What an error of another library says, its first line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def in_lines(names: Sequence[str]) -> str:
    """The first names, one a line and safe to print, and how many more there are."""
    lines = [f"  {visible(name)}" for name in names[:SHOWN]]
    more = [f"  and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "\n".join([*lines, *more])


def some(names: Iterable[str], limit: int = 4) -> str:
    """The first names in a line, and how many more there are."""
    names = [visible(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def check_type(what: str, value: object, *kinds: type) -> None:
    """Hold an argument to the types that it may have.

    Raises:
        ConfigError: it has another one.
    """
    if not isinstance(value, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{what} is of type {type(value).__name__}; expected {expected}.")


class E2VPTError(Exception):
    """Root of every exception raised on purpose by this package.

    Its text is safe to print, whatever names of files and classes it holds.
    """

    def __str__(self) -> str:
        return "\n".join(map(visible, super().__str__().split("\n")))


class ConfigError(E2VPTError, ValueError):
    """A setting is out of range or contradicts another one."""


class BackboneError(E2VPTError, ValueError):
    """A backbone cannot be created or used."""


class UnsupportedBackbone(BackboneError):
    """Prompts do not support this timm model; the message names the unsupported part."""


class WeightsError(BackboneError):
    """A weights file or download is missing, does not fit the model, or cannot be read safely."""


class DataError(E2VPTError, ValueError):
    """A data set cannot be trained on: empty class, missing split, unknown label, bad CSV row."""


class UnreadableImages(DataError):
    """Some images do not decode.

    Attributes:
        problems: what went wrong, by image name, for every unreadable image; the message shows the first.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        listed = in_lines([f"{name}: {why}" for name, why in self.problems.items()])
        super().__init__(
            f"{len(self.problems)} unreadable image(s):\n{listed}\n"
            "Repair or remove them (and their CSV rows), or leave them out with --skip-unreadable."
        )

    def __reduce__(self) -> tuple[type[UnreadableImages], tuple[dict[str, str]]]:
        return type(self), (self.problems,)


class AdapterError(E2VPTError, ValueError):
    """An adapter file cannot be used."""


class AdapterFormatError(AdapterError):
    """An adapter file is truncated, altered, hostile, or of a format newer than this version reads."""


class BackboneMismatch(AdapterError):
    """An adapter was made for another backbone than the one it is loaded on."""


class RunError(E2VPTError, RuntimeError):
    """A run folder exists already, is incomplete, or was made with other settings."""


class Diverged(RunError):
    """A training's loss stopped being a finite number."""


class HubError(E2VPTError, RuntimeError):
    """A Hugging Face repository cannot be read or written: no token, no connection, no such revision."""


class ExportError(E2VPTError):
    """A model cannot be exported, or its file does not compute what the model does."""


class MissingExtra(E2VPTError, ImportError):
    """A feature needs an optional dependency; the message holds the pip command."""


@contextmanager
def needs(extra: str, why: str) -> Iterator[None]:
    """Around imports of an optional dependency: `with needs("ray", "A cluster needs Ray"): import ray`.

    Raises:
        MissingExtra: one of them cannot be imported; names the pip command for `extra`.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(f"{why}: pip install 'e2vpt[{extra}]' ({error})") from error
