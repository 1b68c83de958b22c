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
    └── MissingExtra                an optional dependency is not installed (also ImportError)

Every message says what was found, what was expected and what to do about it.

    try:
        model, info = e2vpt.load_adapter("pets.safetensors", backbone=backbone)
    except e2vpt.BackboneMismatch:
        ...
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

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


class E2VPTError(Exception):
    """Root of every exception raised on purpose by this package; its message is safe to print (`visible`)."""

    def __init__(self, message: str = "") -> None:
        super().__init__("\n".join(map(visible, message.split("\n"))))


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
        problems: what went wrong, by image name, for every unreadable image (not only the first).
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        listed = "\n".join(f"  {name}: {why}" for name, why in self.problems.items())
        super().__init__(
            f"{len(self.problems)} unreadable image(s), found before anything was trained:\n{listed}\n"
            "Repair or remove them (and their CSV rows), then run the same command again."
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


class MissingExtra(E2VPTError, ImportError):
    """A feature needs an optional dependency; the message holds the pip command."""
