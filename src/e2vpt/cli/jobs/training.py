"""What train and prune do once their flags are read: trainings, the report, and what is printed of them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from e2vpt.adapters.files import read_adapter
from e2vpt.cli.options import kept_when_interrupted
from e2vpt.cli.output import describe, print_final, print_measured, print_temperature, print_tried
from e2vpt.config import GridConfig, PruneConfig
from e2vpt.data import ImageFile, Task
from e2vpt.errors import AdapterError, visible
from e2vpt.insight.reports.writing import REPORT, write_html_report
from e2vpt.runs.folders.folder import ADAPTER
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.progress import image_check, reported, say
from e2vpt.runs.protocol import train_by_the_paper
from e2vpt.runs.start import RunPlan
from e2vpt.runs.train import describe_task, train_task
from e2vpt.training.checkpoint import Row
from e2vpt.training.processes import is_first_process


def train_and_print(
    task: Task,
    config: RunConfig,
    prune: PruneConfig | None,
    out: Path,
    *,
    resume: bool,
    on_epoch: Callable[[Row], None] | None = None,
    again: str = "the same command with --resume",
) -> None:
    """The trainings of a run, then what its adapter holds, on stdout."""
    with kept_when_interrupted(out, again):
        done = train_task(task, config, prune, out, resume=resume, verbose=True, on_epoch=on_epoch)
    if is_first_process():
        if done.tried:
            has_val = task.val is not None and config.data.train_on == "train"
            print_tried(done.tried, has_val=has_val)
        print(f"{'adapter':18} {visible(str(done.trained.adapter))}")
        print(describe(read_adapter(done.trained.adapter)))


def is_calibrated(out: Path) -> bool:
    """Whether the adapter of a run holds a temperature, which training again would drop."""
    try:
        return "temperature" in read_adapter(out / ADAPTER).metrics
    except AdapterError:  # There is none yet, or not a whole one.
        return False


def report_and_print(task: Task, out: Path, *, calibrate: bool) -> None:
    """Test accuracy and the report; the one time that the test images are looked at."""
    with image_check("Evaluating") as update:
        report = write_html_report(out, task=task, calibrate=calibrate, on_images=update)
    print_measured([m for m in report.measured if m.split == "test"], report.info.classes)
    if calibrate:
        print_temperature(report)
    print(f"{'report':18} {visible(str(out / REPORT))}")


def print_next(task: Task, plan: RunPlan) -> None:
    """A command that can be pasted as it is."""
    found = (task.test or task.val or task.train).images[0]
    if isinstance(found, ImageFile) and found.size is None:
        words = ["e2vpt", "predict", str(plan.out), os.path.relpath(found.path), "--topk", "3"]
    else:
        words = ["e2vpt", "eval", str(plan.out), plan.source]
    print(f"{'next':18} {visible(shlex.join(words))}")


def train_protocol_and_print(
    task: Task, config: RunConfig, prune: PruneConfig, grid: GridConfig, out: Path, *, resume: bool
) -> None:
    """All trainings of the paper's protocol, then what was chosen and reached, on stdout."""
    if is_first_process():
        say(describe_task(task))
    with kept_when_interrupted(out), reported() as reporting:
        rows = train_by_the_paper(
            task, config, out, prune=prune, grid=grid, resume=resume, reporting=reporting
        )
    if is_first_process():
        print_final(rows)
        print(f"{'adapter':18} {visible(str(out / ADAPTER))}")
        print(describe(read_adapter(out / ADAPTER)))
