"""A run folder: its settings, and the names of what lies in it.

config.json              everything that was asked for; version and date of the start
splits.csv               every image: its split, class and content
log.jsonl, log.csv       one row of figures per epoch, of the training they stand beside
checkpoint.safetensors   the state after the last finished epoch, for --resume
last.safetensors         the adapter after the last finished epoch
adapter.safetensors      the adapter of the best epoch; written when everything is over
README.md                its model card
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from e2vpt.config import RECIPE_PROMPTS, DataConfig, MethodConfig, PromptConfig, TrainConfig
from e2vpt.config.fields import check_choices, from_dict, to_dict
from e2vpt.errors import ConfigError, RunError, check_type
from e2vpt.files.atomic import (
    create_atomic,
    make_folder,
    read_json_lines,
    write_csv,
    write_json_lines,
)
from e2vpt.files.paths import check_folder_place, listed, look_at
from e2vpt.methods.names import check_method, own_lr
from e2vpt.runs.identity import SPLITS, changed_settings
from e2vpt.runs.lock import LOCK
from e2vpt.training.checkpoint import Row

ADAPTER, UNPRUNED, LAST, CHECKPOINT, CONFIG = (
    "adapter.safetensors",
    "unpruned.safetensors",
    "last.safetensors",
    "checkpoint.safetensors",
    "config.json",
)
PRUNE_FOLDER, GRID_FOLDER, TASKS = "prune", "grid", "tasks"
"""Folders below a run's: of pruning, of the paper's grid; below a comparison's: what the images of each task
are."""
_LOG = "log.jsonl"
_PARTS = {"prompts": PromptConfig, "options": MethodConfig, "data": DataConfig, "train": TrainConfig}
_PLAIN = ("backbone", "weights", "method", "adapter_precision", "source", "recipe")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that defines a run.

    Attributes:
        backbone, weights: as in `load_backbone`.
        method: one of `methods.names.METHODS`.
        prompts: the recipe's unless given: they start from patch tokens of training images.
        options: settings of other methods than prompts.
        train: a learning rate of None becomes the method's own.
        adapter_precision: of the numbers in the adapter file.
        source: where the images came from, as a command was told; for the next command only.
        recipe: the name of the values that a command started from; the values themselves are in the rest.
    """

    backbone: str
    weights: str | None = None
    method: str = "e2vpt"
    prompts: PromptConfig = RECIPE_PROMPTS
    options: MethodConfig = field(default_factory=MethodConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapter_precision: Literal["fp32", "fp16"] = "fp32"
    source: str | None = None
    recipe: str = "default"

    def __post_init__(self) -> None:
        check_method(self.method)
        check_choices(self)
        for name, kind in _PARTS.items():
            check_type(name, getattr(self, name), kind)
        if self.train.lr is None:
            train = dataclasses.replace(self.train, lr=own_lr(self.method, self.prompts))
            object.__setattr__(self, "train", train)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        parts = {name: to_dict(getattr(self, name)) for name in _PARTS}
        return {name: getattr(self, name) for name in _PLAIN} | parts


def saved_run_config(run: str | Path) -> RunConfig:
    """The settings of the run in a folder.

    Raises:
        RunError: there is no run, or its settings cannot be read.
    """
    path = Path(run) / CONFIG
    if look_at(path) == "nothing":
        raise RunError(f"{run} is not a finished run of `e2vpt train`: {path} does not exist.")
    values = read_config(path)
    if kind_of(values) != "run":
        raise RunError(f"{run} holds a {kind_of(values)}, no run, but runs lie below it. Name one.")
    try:
        return RunConfig(
            prompts=from_dict(PromptConfig, values["prompts"]),
            options=from_dict(MethodConfig, values["options"]),
            data=from_dict(DataConfig, values["data"]),
            train=from_dict(TrainConfig, values["train"]),
            **{name: values[name] for name in _PLAIN if name != "recipe" or name in values},
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{path} cannot be used ({error}). Restore it, or start a new run.") from error


def kind_of(saved: Mapping[str, Any]) -> Literal["run", "search", "comparison", "benchmark"]:
    """What a folder with these settings holds."""
    if "search" in saved:
        return "search"
    if "protocol" in saved:
        return "benchmark"
    return "comparison" if "tune_on" in saved else "run"


def holds_run(folder: Path) -> bool:
    """Whether a folder has the settings of a run.

    Raises:
        RunError: they cannot be read.
    """
    path = folder / CONFIG
    return look_at(path) != "nothing" and kind_of(read_config(path)) == "run"


def is_by_the_paper(run: Path) -> bool:
    """Whether a run is one of the paper's protocol, whose final trainings have the validation images too."""
    return look_at(run / GRID_FOLDER / CONFIG) != "nothing"


def open_folder(
    out: Path,
    wanted: Mapping[str, Any],
    *,
    resume: bool,
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Create a folder with its config, or check that what is in it is what is to be resumed.

    `parts` are further settings, each in a folder below; where the config stands, theirs do too.

    Raises:
        RunError: it was made with another config, or cannot be written.
    """
    # Listed once: of jobs that start together in one folder, another one may be writing its config now.
    kind = look_at(out)
    found = {path.name for path in listed(out)} if kind == "folder" else set()
    if CONFIG in found:
        if not resume:
            raise _begun(out)
        saved, asked = read_config(out / CONFIG), json.loads(json.dumps(wanted))
        different = changed_settings(saved, asked)
        if different:
            raise RunError(
                f"{out} was made with other settings: {'; '.join(different)} (see {out / CONFIG}). "
                "Resume with the same command, or choose another --out."
            )
        _open_parts(out, parts)
        return
    # Folders without files do not count: a start that was killed leaves some.
    if kind not in ("folder", "nothing") or (kind == "folder" and has_begun(out)):
        raise _foreign(out)
    make_folder(out)
    _open_parts(out, parts)
    if not create_atomic(out / CONFIG, (json.dumps(wanted, indent=2) + "\n").encode()):
        open_folder(out, wanted, resume=resume, parts=parts)  # another process was faster


def _open_parts(out: Path, parts: Mapping[str, Mapping[str, Any]] | None) -> None:
    for name, settings in (parts or {}).items():
        open_folder(out / name, settings, resume=True)


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse an `out` that cannot be used, before anything slow begins.

    Raises:
        RunError: it holds a run and `resume` is False; or something else; or it cannot be created.
    """
    kind = look_at(out)
    if kind == "folder" and has_begun(out):
        if look_at(out / CONFIG) == "nothing" or not _is_made_here(read_config(out / CONFIG)):
            raise _foreign(out)
        if not resume:
            raise _begun(out)
    elif kind not in ("folder", "nothing"):
        raise RunError(f"{out} is a file. Choose another --out.")
    check_folder_place(out)


def _begun(out: Path) -> RunError:
    return RunError(f"{out} holds a run already. Go on with it by --resume, or choose another --out.")


def _foreign(out: Path) -> RunError:
    return RunError(f"{out} exists and is not a run of e2vpt. Choose another --out.")


def has_begun(out: Path) -> bool:
    """Whether anything in a folder is worth keeping: more than settings of a start that failed."""
    return any(
        path.is_file() and not _is_passing(path.name) and not _is_of_a_start(path) for path in out.rglob("*")
    )


def forget_failed_start(out: Path) -> None:
    """Remove settings of a start that failed before its first epoch, so that they do not block the next."""
    if look_at(out) == "folder" and not has_begun(out):
        # All are found before any goes: a list of images is known by the settings beside it.
        for path in [path for path in out.rglob("*") if path.is_file() and _is_of_a_start(path)]:
            path.unlink(missing_ok=True)
            for folder in path.parents[: len(path.relative_to(out).parts) - 1]:
                _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # It is gone already, or something else is in it.
        for path in folder.iterdir():
            if _is_passing(path.name):
                path.unlink()
        folder.rmdir()


def _is_of_a_start(path: Path) -> bool:
    """Whether a file is settings or a list of images, which stand there before the first epoch, and ours."""
    folder = path.parent
    if path.name == CONFIG:
        return folder.name in (PRUNE_FOLDER, GRID_FOLDER) or _is_ours(path)
    of = folder.parent.parent if folder.parent.name == TASKS else folder
    return path.name == SPLITS and (_is_ours(folder / CONFIG) or _is_ours(of / CONFIG))


def _is_ours(path: Path) -> bool:
    try:
        return _is_made_here(read_config(path))
    except RunError:
        return False


def _is_made_here(saved: Mapping[str, Any]) -> bool:
    """Whether settings are of a folder of ours: the backbone is in all of them."""
    return "backbone" in saved


def _is_passing(name: str) -> bool:
    """Files of the moment: a lock, a file that is just being written."""
    return name == LOCK or name.endswith(".tmp")


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object that `open_folder` wrote.

    Raises:
        RunError: it cannot be read.
    """
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("expected a JSON object")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}). Restore it, or start a new run.") from error
    return values


def write_log(out: Path, history: list[Row], training: str) -> None:
    """Both logs whole, after every epoch: a resumed run leaves no gap. The table names the training."""
    write_json_lines(out / _LOG, history)
    rows = [{"training": training, **row} for row in history]
    write_csv(out / "log.csv", rows, list(rows[0]))


def read_log(folder: Path) -> list[Row]:
    """The rows of a training so far, none where it has not finished an epoch."""
    return read_json_lines(folder / _LOG)
