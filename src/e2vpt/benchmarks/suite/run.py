"""Running a benchmark: its cells one after another, a share of them, or on the workers of a Ray cluster.

Each finished cell has its rows in a folder of its own, so that jobs that never meet can share one folder, and
the folders of jobs that cannot be put together: nothing is ever run twice.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from e2vpt.benchmarks.compare.trial import ComparisonRow
from e2vpt.benchmarks.suite.cell import CELL_ROWS, CELLS, Protocol, cell_folder, finished_rows, run_cell
from e2vpt.benchmarks.suite.tasks import Suite, load_suite_task, suite_notes
from e2vpt.errors import DataError, E2VPTError
from e2vpt.files.atomic import make_folder, read_json_lines, write_json_lines
from e2vpt.files.paths import listed, look_at
from e2vpt.runs.folders.folder import CONFIG, TASKS, read_config
from e2vpt.runs.folders.held import backbone_fingerprint, hold_task
from e2vpt.runs.folders.identity import hold_images, saved_images
from e2vpt.runs.folders.opening import open_folder
from e2vpt.runs.reporting import Reporting
from e2vpt.search.cluster import run_on_cluster

Cell = tuple[str, str]
"""Task and method."""


def cells_of(suite: Suite, methods: Sequence[str], shard: tuple[int, int] = (1, 1)) -> list[Cell]:
    """A share of the cells; every share has some of each task and method."""
    cells = [(task, method) for task in suite.tasks for method in methods]
    return cells[shard[0] - 1 :: shard[1]]


def run_suite(
    suite: Suite,
    protocol: Protocol,
    methods: Sequence[str],
    out: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    workers: int = 0,
    address: str | None = None,
    reporting: Reporting | None = None,
) -> dict[Cell, str]:
    """Run what is missing of a benchmark's cells; returns those that failed and why: they stop no others.

    `shard` (i, n) is the i-th of n shares of the cells, from 1. Cells run in this process, one after another;
    with `workers`, in so many processes of this machine, each with a GPU of its own where there are any; with
    `address`, on the Ray cluster there.

    Raises:
        RunError: the folder holds a benchmark of other settings, weights or images, or cannot be written.
    """
    reporting = reporting or Reporting()
    own = {"kind": suite.kind, "source_of_images": suite.source}
    weights = {"fingerprint": backbone_fingerprint(protocol.config)}
    open_folder(out, protocol.settings() | own | weights, resume=True)
    for note in suite_notes(suite):
        reporting.stage(note)
    cells = cells_of(suite, methods, shard)
    broken = _hold_images(suite, protocol, [task for task, _ in cells], out)
    missing = [cell for cell in cells if not finished_rows(out, *cell, protocol)]
    reporting.stage(f"{len(cells) - len(missing)} of {len(cells)} cells are there already.")
    failed: dict[Cell, str] = {cell: broken[cell[0]] for cell in missing if cell[0] in broken}
    missing = [cell for cell in missing if cell not in failed]

    def on_done(cell: Cell, problem: str | None) -> None:
        if problem is not None:
            failed[cell] = problem
        words = "failed" if problem else _accuracy(finished_rows(out, *cell, protocol))
        reporting.stage(f"{cell[0]}, {cell[1]}: {words}")

    if workers or address:
        run = functools.partial(_run_elsewhere, suite, protocol, out.absolute())
        run_on_cluster(run, missing, on_done, workers=workers, address=address)
    else:
        for number, cell in enumerate(missing, start=1):
            reporting.stage(f"Cell {number} of {len(missing)}: {cell[0]}, {cell[1]}")
            problem = None
            try:
                run_cell(suite, protocol, *cell, out, reporting.bars())
            except E2VPTError as error:
                problem = str(error)
            on_done(cell, problem)
    return failed


def _hold_images(suite: Suite, protocol: Protocol, names: Iterable[str], out: Path) -> dict[str, str]:
    """Hold tasks to the images that the benchmark began with; what is wrong with those that cannot be read.

    Finished cells are held too: their rows stand in one table with those to come.
    """
    broken = {}
    for name in dict.fromkeys(names):
        try:
            hold_task(out / TASKS / name, load_suite_task(suite, name, protocol.config.data))
        except DataError as error:
            broken[name] = str(error)
    return broken


def _run_elsewhere(suite: Suite, protocol: Protocol, out: Path, cell: Cell) -> None:
    """A cell in another process, which tells nobody how it gets on."""
    run_cell(suite, protocol, *cell, out, Reporting())


def merge(folders: Sequence[Path], out: Path) -> int:
    """Copy the finished cells of other jobs' folders into one; returns how many came.

    Raises:
        RunError: a folder is no benchmark, or one of other settings, weights or images.
    """
    count = 0
    for folder in folders:
        open_folder(out, read_config(folder / CONFIG), resume=True)
        for images in listed(folder / TASKS) if look_at(folder / TASKS) == "folder" else ():
            make_folder(out / TASKS / images.name)
            hold_images(out / TASKS / images.name, saved_images(images))
        for rows in sorted((folder / CELLS).glob(f"*/*/{CELL_ROWS}")):
            target = cell_folder(out, rows.parent.parent.name, rows.parent.name) / CELL_ROWS
            if look_at(target) == "nothing":
                make_folder(target.parent)
                write_json_lines(target, read_json_lines(rows))
                count += 1
    return count


def all_rows(suite: Suite, protocol: Protocol, methods: Sequence[str], out: Path) -> list[ComparisonRow]:
    """The final rows of every finished cell."""
    return [row for cell in cells_of(suite, methods) for row in finished_rows(out, *cell, protocol)]


def _accuracy(rows: Sequence[ComparisonRow]) -> str:
    mean = sum(row["accuracy"] for row in rows) / len(rows)
    return f"{100 * mean:.1f} %, {len(rows)} seed{'s' if len(rows) > 1 else ''}"
