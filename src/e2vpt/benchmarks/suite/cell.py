"""One cell of a benchmark's table: a task, a method, all the trainings the protocol takes for it.

fast   the method's own learning rate for every task, or with `tune` the best of three on the validation
       images; pruning is chosen on them too.
paper  `train_by_the_paper`: its whole grid, keep ratios for what prunes, five seeds; prompts, and what is
       tuned beside them, are the row's own.

The final trainings have all 1000 images of VTAB-1k, and the training images of FGVC.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from e2vpt.adapters.files import read_adapter
from e2vpt.backbones.load import build_backbone
from e2vpt.benchmarks.compare.compare import Comparison, compare_methods
from e2vpt.benchmarks.compare.entries import ENTRIES, ComparedMethod, config_of, pruned_as_asked
from e2vpt.benchmarks.compare.trial import ComparisonRow
from e2vpt.benchmarks.suite.tasks import Suite, load_suite_task
from e2vpt.config import GridConfig, PruneConfig
from e2vpt.config.fields import to_dict
from e2vpt.config.images import TrainOn
from e2vpt.data import Task
from e2vpt.errors import RunError
from e2vpt.files.atomic import read_json_lines, write_json_lines
from e2vpt.runs.folders.folder import ADAPTER, CHECKPOINT, LAST
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.protocol import train_by_the_paper
from e2vpt.runs.reporting import Reporting

CELLS, CELL_ROWS = "cells", "rows.jsonl"
"""In a finished cell's folder: a row for each final training, with what of `ComparisonRow` does not depend on
the hour, tuned_percent and with_head_percent (of the backbone's parameters), group and source."""
_MEASURED: Mapping[str, type] = {
    **dict.fromkeys(("task", "method"), str),
    **dict.fromkeys(("seed", "num_tuned", "num_head", "adapter_bytes"), int),
    "lr": float,
    "accuracy": float,
    "diverged": bool,
}
_SHARES: Mapping[str, type] = {"tuned_percent": float, "with_head_percent": float}


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How a cell is trained.

    Attributes:
        name: see above.
        config: what every training shares.
        prune: what is pruned and how; paper: how it is scored.
        grid: paper: what is gone through.
        seeds: fast: final trainings of each cell.
        tune: fast: try three learning rates for each task.
        final_on: images of the final trainings; with training images alone, validation images say which epoch
            to keep.
        given: settings of pruning that were asked for, also of rows that have their own.
    """

    name: Literal["fast", "paper"]
    config: RunConfig
    prune: PruneConfig = dataclasses.field(default_factory=PruneConfig)
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    seeds: int = 3
    tune: bool = False
    final_on: TrainOn = "train+val"
    given: Collection[str] = ()

    def settings(self) -> dict[str, Any]:
        """What must be the same for rows to stand in one table; more methods and seeds may come later."""
        shared = self.config.to_dict() | {"method": None, "source": None, "weights": None}
        own = {"prune": to_dict(self.prune)} | ({} if self.name == "fast" else {"grid": to_dict(self.grid)})
        chosen = {"protocol": self.name, "tune": self.tune, "final_on": self.final_on}
        return shared | own | chosen | {"given": sorted(self.given)}


def entry_of(protocol: Protocol, method: str) -> ComparedMethod:
    """A method as the protocol takes it."""
    entry = pruned_as_asked(ENTRIES[method], protocol.given)
    if protocol.name == "paper" or protocol.tune:
        return entry
    own = config_of(protocol.config, entry, None, 0).train.peak_lr
    return dataclasses.replace(entry, lrs=(own,))


def grid_of(protocol: Protocol, entry: ComparedMethod) -> GridConfig:
    """The paper's grid for a method, without keep ratios for what does not prune."""
    grid = protocol.grid.for_method(entry.method)
    return grid if entry.prunes else dataclasses.replace(grid, keep_ratios=())


def cell_folder(out: Path, task: str, method: str) -> Path:
    """Where a cell's trainings lie."""
    return out / CELLS / task / method


def finished_rows(out: Path, task: str, method: str, protocol: Protocol) -> list[ComparisonRow]:
    """A cell's final rows; none where one of its seeds is missing."""
    rows = read_json_lines(cell_folder(out, task, method) / CELL_ROWS, {**_MEASURED, **_SHARES})
    return rows if protocol.name == "paper" or len(rows) >= protocol.seeds else []


def run_cell(
    suite: Suite, protocol: Protocol, name: str, method: str, out: Path, reporting: Reporting
) -> None:
    """Run what is missing of a cell, and leave its rows and adapters.

    Raises:
        DataError: the task's files are broken.
        RunError: every learning rate diverged.
    """
    task, entry = load_suite_task(suite, name, protocol.config.data), entry_of(protocol, method)
    folder = cell_folder(out, name, method)
    run = _fast if protocol.name == "fast" else _paper
    rows = run(task, entry, protocol, method, folder, reporting)
    shared = {"group": suite.tasks[name], "source": suite.source}
    whole = num_backbone(protocol.config)
    write_json_lines(folder / CELL_ROWS, [_row(row, whole) | shared for row in rows])
    # A finished training needs no checkpoint; those of full fine-tuning would fill a disk.
    for name in (CHECKPOINT, LAST):
        for path in folder.rglob(name):
            path.unlink(missing_ok=True)


def _row(row: ComparisonRow, whole: int) -> ComparisonRow:
    """What a table needs of a final training, and what it tunes in % of the backbone's parameters."""
    tuned, head = row["num_tuned"], row["num_head"]
    shares = {"tuned_percent": 100 * tuned / whole, "with_head_percent": 100 * (tuned + head) / whole}
    return {name: row[name] for name in _MEASURED} | shares


def num_backbone(config: RunConfig) -> int:
    """Parameters of the backbone without a head, built without memory."""
    with torch.device("meta"):
        model = build_backbone(config.backbone, num_classes=0, image_size=config.data.image_size)
    return sum(parameter.numel() for parameter in model.parameters())


def _fast(
    task: Task, entry: ComparedMethod, protocol: Protocol, method: str, folder: Path, reporting: Reporting
) -> Sequence[ComparisonRow]:
    comparison = Comparison(
        tasks={task.name: task},
        config=protocol.config,
        entries={method: entry},
        tune_on=(task.name,),
        prune=protocol.prune,
        seeds=protocol.seeds,
        final_on=protocol.final_on,
    )
    rows = compare_methods(comparison, folder, resume=True, reporting=reporting)
    final = [row for row in rows if row["stage"] == "final"]
    if any(row["diverged"] for row in final):
        raise RunError(f"{task.name}, {method}: training diverged at {final[0]['lr']:g}; try --tune.")
    return final


def _paper(
    task: Task, entry: ComparedMethod, protocol: Protocol, method: str, folder: Path, reporting: Reporting
) -> Sequence[ComparisonRow]:
    config = config_of(protocol.config, entry, None, 0)
    grid = grid_of(protocol, entry)
    rows = train_by_the_paper(
        task,
        config,
        folder,
        prune=protocol.prune,
        grid=grid,
        final_on=protocol.final_on,
        published_start=False,
        resume=True,
        reporting=reporting,
    )
    final = []
    for row in rows:
        if row["stage"] == "final":
            if row["diverged"]:
                raise RunError(f"{task.name}, {method}: seed {row['seed']} diverged at {row['lr']:g}.")
            info = read_adapter(folder / row["name"] / ADAPTER)
            final.append(
                {name: row[name] for name in ("stage", "lr", "seed", "diverged")}
                | {"task": task.name, "method": method, "accuracy": row["test_accuracy"]}
                | {"num_tuned": info.num_tuned, "num_head": info.num_head, "adapter_bytes": info.bytes}
            )
    return final
