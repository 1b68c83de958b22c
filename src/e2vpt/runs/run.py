"""One training from data to adapter, in a run folder."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

import e2vpt
from e2vpt.adapters.files import save_adapter
from e2vpt.data import Preprocessing, Task
from e2vpt.files.atomic import make_folder
from e2vpt.methods.counting import trainable_line
from e2vpt.runs.augmenting import switching
from e2vpt.runs.cards.card import write_card
from e2vpt.runs.folders.folder import ADAPTER, CHECKPOINT, LAST, read_log, write_log
from e2vpt.runs.folders.identity import hold_images, image_rows
from e2vpt.runs.folders.lock import only_one
from e2vpt.runs.folders.opening import check_out, forget_failed_start, open_folder
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import Prepared, prepare
from e2vpt.runs.reporting import Reporting
from e2vpt.training.checkpoint import Row
from e2vpt.training.fit import FitResult, fit
from e2vpt.training.processes import as_the_first, is_first_process
from e2vpt.training.schedule import EpochRange
from e2vpt.training.steps import Batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A finished run.

    Attributes:
        model: with the best epoch's prompts and head, in eval mode.
        preprocessing: how images become its input.
        adapter: path of the adapter file.
        result: the figures of every epoch.
    """

    model: nn.Module
    preprocessing: Preprocessing
    adapter: Path
    result: FitResult


def train_run(
    task: Task,
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    like: Prepared | None = None,
    reporting: Reporting | None = None,
) -> Trained:
    """Train one task into a run folder; `like` as in `prepare`.

    Raises:
        RunError: `out` holds a run already and `resume` is False, or was made with other settings, or
            cannot be written.
        And what backbones, prompts and training raise.
    """
    folder, reporting = Path(out), reporting or Reporting()
    with opened_run(task, config, folder, resume=resume, like=like) as prepared:
        reporting.stage(trainable_line(prepared.model))
        batches = switching(prepared, folder, reporting.stage, config.train.epochs)
        result = train_into(prepared, folder, resume=resume, batches=batches, reporting=reporting)
    return Trained(
        model=prepared.model.eval(),
        preprocessing=prepared.preprocessing,
        adapter=folder / ADAPTER,
        result=result,
    )


@contextmanager
def opened_run(
    task: Task,
    config: RunConfig,
    out: Path,
    *,
    resume: bool,
    like: Prepared | None = None,
    parts: Mapping[str, Mapping[str, Any]] | None = None,
    check: Callable[[nn.Module], None] = lambda model: None,
) -> Iterator[Prepared]:
    """Prepare a run that has its folder to itself; what it is stands there, or is the one to be resumed.

    `like` as in `prepare`, `parts` as in `open_folder`; `check` may refuse the model before anything is
    written.

    Raises:
        RunError: the folder holds another run, of other settings, weights or images; or another process works
            there; or it cannot be written.
    """
    check_out(out, resume=resume)
    with only_one(out):
        prepared = prepare(task, config, like)
        check(prepared.model)
        if is_first_process():
            forget_failed_start(out)
            more = {
                "task": task.name,
                "classes": list(task.classes),
                "fingerprint": prepared.fingerprint,
                "e2vpt": e2vpt.__version__,
                "begun": datetime.date.today().isoformat(),
            }
            open_folder(out, prepared.config.to_dict() | more, resume=resume, parts=parts)
            hold_images(out, image_rows(task))
        yield prepared
        if is_first_process():
            write_card(out)
        as_the_first(None)  # Only then may the other processes read what the first one wrote.


def train_into(
    prepared: Prepared,
    out: Path,
    *,
    resume: bool,
    adapter: str = ADAPTER,
    training: str = "the only one",
    batches: Batches | None = None,
    part: EpochRange | None = None,
    reporting: Reporting | None = None,
) -> FitResult:
    """Train the model as it is now, log and adapters going to `out`; afterwards it holds the best epoch.

    The best epoch's adapter is written under the name `adapter`; `training` is what the log calls this
    training, as a pruned run has several. `batches` are those of `prepared` where not given; `part` as in
    `fit`.
    """
    reporting = reporting or Reporting()
    if is_first_process():
        make_folder(out)
    told = len(read_log(out)) if resume else 0

    def after_epoch(history: list[Row]) -> None:
        write_log(out, history, training)
        save_run_adapter(prepared, out / LAST, _metrics(history[-1]))
        if reporting.on_epoch is not None and len(history) > told:
            reporting.on_epoch(history[-1])

    result = fit(
        prepared.model,
        prepared.train if batches is None else batches,
        prepared.val,
        prepared.config.train,
        checkpoint=out / CHECKPOINT,
        resume=resume,
        part=part,
        on_step=reporting.on_step,
        on_epoch=after_epoch,
    )
    if is_first_process():
        save_run_adapter(prepared, out / adapter, _metrics(result.best))
    return result


def save_run_adapter(prepared: Prepared, path: Path, metrics: Mapping[str, float]) -> int:
    """Write the model as it is now as an adapter of its run; returns the file's bytes."""
    return save_adapter(
        prepared.model,
        path,
        classes=prepared.task.classes,
        preprocessing=prepared.preprocessing,
        method=prepared.config.method,
        metrics=metrics,
        precision=prepared.config.adapter_precision,
        backbone_fingerprint=prepared.fingerprint,
    )


def _metrics(row: Row) -> dict[str, float]:
    return {name: row[name] for name in ("epoch", "val_accuracy", "val_loss") if name in row}
