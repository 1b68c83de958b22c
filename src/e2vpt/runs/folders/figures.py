"""What a finished run was measured to be: RUN/figures.json, written with its report, read by its card."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2vpt.errors import RunError
from e2vpt.files.atomic import write_atomic
from e2vpt.files.paths import look_at
from e2vpt.runs.folders.folder import ADAPTER, read_config
from e2vpt.training.evaluate import Metrics

FIGURES = "figures.json"


def save_figures(run: Path, figures: Mapping[str, Metrics]) -> None:
    """Write the figures of the adapter that the run holds now, by split.

    Raises:
        RunError: they cannot be written.
    """
    splits = {name: dataclasses.asdict(metrics) for name, metrics in figures.items()}
    saved = {"adapter": _digest(run), "splits": splits}
    write_atomic(run / FIGURES, (json.dumps(saved, indent=2) + "\n").encode())


def read_figures(run: Path) -> dict[str, Metrics]:
    """The figures by split; none where nobody measured, or the adapter is another one since.

    Raises:
        RunError: the file is damaged.
    """
    path = run / FIGURES
    if look_at(path) == "nothing":
        return {}
    saved = read_config(path)
    if saved.get("adapter") != _digest(run):
        return {}
    try:
        return {str(name): _metrics(values) for name, values in saved["splits"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}). Remove it; `e2vpt report {run}` writes it again."
        ) from error


def _metrics(values: Mapping[str, Any]) -> Metrics:
    shares = {name: float(values[name]) for name in ("accuracy", "mean_class_accuracy", "loss")}
    return Metrics(num_images=int(values["num_images"]), **shares)


def _digest(run: Path) -> str:
    try:
        return hashlib.sha256((run / ADAPTER).read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"{run / ADAPTER} cannot be read ({error.strerror}).") from error
