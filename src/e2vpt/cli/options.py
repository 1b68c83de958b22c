"""What the commands share: common arguments, reading a task, talking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vpt.backbones.presets import PRESETS
from e2vpt.config import DataConfig
from e2vpt.errors import ConfigError
from e2vpt.runs.progress import image_check, say

if TYPE_CHECKING:
    from e2vpt.data import Task
    from e2vpt.runs.folders.run_config import RunConfig

PRESET_NAMES = ", ".join(sorted(PRESETS))
Weights = Annotated[Path | None, typer.Option(help="Local weights of the backbone instead of a download.")]
BackboneName = Annotated[str, typer.Option(help=f"A timm name, or a preset: {PRESET_NAMES}.")]
Backbone = Annotated[str | None, typer.Option(help="Backbone instead of the one the file names.")]
NewBackbone = Annotated[str | None, typer.Option(help=f"A timm name, or a preset: {PRESET_NAMES}.")]
AdapterArgument = Annotated[
    Path, typer.Argument(metavar="ADAPTER_OR_RUN", help="Adapter file, run folder, or hf-hub:OWNER/NAME.")
]
DATA_HELP = "Folder of class folders, a .tar, .tar.gz or .zip of it, a .csv, or hf:NAME."
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that do not decode, and list them.")
]
AsCells = Annotated[
    bool,
    typer.Option(
        "--bom",
        help="With --csv: mark it as UTF-8 for spreadsheets, and keep cells from being read as formulas.",
    ),
]
Separator = Annotated[
    str, typer.Option(metavar="SEP", help="With --csv: between cells, a comma, a semicolon or `tab`.")
]
_SEPARATORS = {",": ",", ";": ";", "tab": "\t"}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def separator_meant(separator: str, bom: bool, *, wanted: bool, how: str) -> str:
    """What stands between the cells of a table. `wanted`: there is one, which is asked for with `how`.

    Raises:
        ConfigError: a separator that is none, or a flag without effect.
    """
    if (bom or separator != ",") and not wanted:
        raise ConfigError(f"{'--bom' if bom else '--separator'} has no effect without {how}.")
    if separator not in _SEPARATORS:
        raise ConfigError(f"--separator is {separator!r}; expected one of {', '.join(_SEPARATORS)}.")
    return _SEPARATORS[separator]


def load_images(source: str, data: DataConfig) -> Task:
    """The task at a source, every image looked at, with a progress bar."""
    from e2vpt.data import load_task

    with image_check("Reading images") as update:
        return load_task(source, data, progress=update)


@contextmanager
def kept_when_interrupted(out: Path, again: str = "the same command with --resume") -> Iterator[None]:
    """Inside, Ctrl-C ends the command with a word on how to go on, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"Interrupted. Finished epochs are kept in {out}; {again} goes on from there.")
        raise typer.Exit(130) from None


def run_config(backbone: str, weights: Path | None, **parts: Any) -> RunConfig:
    """The settings of a run as the commands get them; `parts` are further fields."""
    from e2vpt.runs.folders.run_config import RunConfig
    from e2vpt.runs.start import absolute

    own = None if weights is None else absolute(str(weights))
    config = RunConfig(backbone=backbone, weights=own, **parts)
    note_slow(config.train.precision)
    return config


def note_slow(precision: str, *, on_cpu: bool | None = None) -> None:
    """A word where bf16 is asked of a CPU that has none; `on_cpu` None: where there is nothing faster."""
    import torch

    from e2vpt.training.bf16 import slow_bf16_note

    on_cpu = not torch.accelerator.is_available() if on_cpu is None else on_cpu
    note = slow_bf16_note() if on_cpu and precision == "bf16" else None
    if note is not None:
        say(note)


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
