"""What a run folder tells of its run: settings, trainings, prunings, images."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2vpt.config import PruneConfig
from e2vpt.config.fields import from_dict, to_dict
from e2vpt.errors import RunError
from e2vpt.files.paths import listed, look_at
from e2vpt.pruning.score_files import load_scores
from e2vpt.pruning.selection import Selection, select
from e2vpt.runs.folders.augmentation import augmentation_of
from e2vpt.runs.folders.folder import CONFIG, PRUNE_FOLDER, read_config, read_log
from e2vpt.runs.folders.identity import SPLITS, ImageRow, saved_images
from e2vpt.runs.folders.run_config import RunConfig, saved_run_config
from e2vpt.runs.folders.tried import Tried, read_tried
from e2vpt.runs.scoring import scores_asked
from e2vpt.training.checkpoint import Row, on_validation

_FINAL = "final"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingLog:
    """One training of a run.

    Attributes:
        name: which it is.
        rows: a row of figures for every epoch, epochs from 1.
        best: the epoch that was kept.
    """

    name: str
    rows: tuple[Row, ...]
    best: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        folder: where it lies.
        config: its settings.
        prune: how it was pruned; None where it was not.
        task: name of the data.
        version, begun: of e2vpt, and the day of the start; "" in runs of earlier versions.
        augment: the augmentation it was trained with in the end.
        trainings: in the order they were made.
        tried: the prunings that were looked at.
        kept: what survived in the pruning that was trained again, and the share of elements that is.
        images: every image with its split and class.
    """

    folder: Path
    config: RunConfig
    prune: PruneConfig | None
    task: str
    version: str
    begun: str
    augment: str
    trainings: tuple[TrainingLog, ...]
    tried: tuple[Tried, ...]
    kept: tuple[Selection, float] | None
    images: tuple[ImageRow, ...]


def read_record(folder: Path) -> RunRecord:
    """The record of a finished run.

    Raises:
        RunError: there is no run, or one of its files cannot be read.
    """
    config, saved = saved_run_config(folder), read_config(folder / CONFIG)
    prune = _pruning(folder)
    tried = tuple(read_tried(folder / PRUNE_FOLDER / "table.csv")) if prune else ()
    return RunRecord(
        folder=folder,
        config=config,
        prune=prune,
        task=str(saved.get("task", folder.name)),
        version=str(saved.get("e2vpt", "")),
        begun=str(saved.get("begun", "")),
        augment=augmentation_of(folder, config),
        trainings=tuple(_trainings(folder, pruned=bool(tried))),
        tried=tried,
        kept=_kept(folder, prune, tried),
        images=tuple(saved_images(folder)) if look_at(folder / SPLITS) != "nothing" else (),
    )


def settings_of(record: RunRecord) -> list[tuple[str, Mapping[str, Any]]]:
    """Every setting by name, in named groups."""
    whole = record.config.to_dict()
    groups = [(name, values) for name, values in whole.items() if isinstance(values, dict)]
    plain = {name: value for name, value in whole.items() if not isinstance(value, dict)}
    pruning = [("prune", to_dict(record.prune))] if record.prune else []
    return [("run", plain), *groups, *pruning]


def _pruning(folder: Path) -> PruneConfig | None:
    path = folder / PRUNE_FOLDER / CONFIG
    if look_at(path) == "nothing":
        return None
    try:
        return from_dict(PruneConfig, read_config(path))
    except ValueError as error:
        raise RunError(f"{path} cannot be used ({error}). Restore it, or start a new run.") from error


def _trainings(folder: Path, *, pruned: bool) -> list[TrainingLog]:
    names = {folder: "all prompts" if pruned else "the only one"}
    places = [(names.get(place) or _name(place), place) for place in training_folders(folder)]
    return [_training(name, rows) for name, place in places if (rows := read_log(place))]


def training_folders(run: Path) -> list[Path]:
    """Where the trainings of a run lie: the first in the run folder itself."""
    return [run, *_folders(run / PRUNE_FOLDER), *_folders(run / _FINAL)]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in listed(parent) if path.is_dir()) if look_at(parent) == "folder" else []


def _name(place: Path) -> str:
    """As the training's log.csv calls it."""
    try:
        with (place / "log.csv").open(newline="", encoding="utf-8") as file:
            return next(csv.DictReader(file)).get("training") or place.name
    except (OSError, ValueError, csv.Error, StopIteration):
        return place.name


def _training(name: str, rows: list[Row]) -> TrainingLog:
    numbered = [row | {"epoch": number} for number, row in enumerate(rows, 1)]
    ranked = [row for row in numbered if "val_accuracy" in row]
    best = max(ranked, key=on_validation) if ranked else numbered[-1]
    return TrainingLog(name=name, rows=tuple(numbered), best=int(best["epoch"]))


def _kept(
    folder: Path, prune: PruneConfig | None, tried: tuple[Tried, ...]
) -> tuple[Selection, float] | None:
    again = [row for row in tried if row.stage == "retrained"]
    if prune is None or not again:
        return None
    row = next((row for row in again if row.chosen), again[0])
    scores = load_scores(folder / PRUNE_FOLDER / "scores.safetensors", scores_asked(prune))
    if scores is None:
        return None
    return select(scores, tokens=row.tokens, segments=row.segments, key_value=prune.keep_kv), row.kept
