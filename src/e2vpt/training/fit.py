"""fit(): one training, the whole loop visible. Trains whatever requires grad; knows nothing of prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from e2vpt.config import TrainConfig
from e2vpt.errors import ConfigError
from e2vpt.prompting.attend import written_out
from e2vpt.prompting.initial import NEEDS_IMAGES, waits_for_images
from e2vpt.training.average import AveragedWeights
from e2vpt.training.checkpoint import (
    Progress,
    Row,
    load_checkpoint,
    load_trained,
    save_checkpoint,
    trained_state,
)
from e2vpt.training.epochs import Epochs
from e2vpt.training.schedule import EpochRange
from e2vpt.training.step_report import StepReport
from e2vpt.training.steps import Batches, check_arguments


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """What a training was.

    Attributes:
        history: one row per epoch: epoch (from 1), lr, train_loss, train_accuracy, val_loss, val_accuracy.
        best_epoch: the epoch the model now holds, from 1.
    """

    history: list[Row]
    best_epoch: int

    @property
    def best(self) -> Row:
        """The row of the best epoch."""
        return self.history[self.best_epoch - 1]


def fit(
    model: nn.Module,
    train_loader: Batches,
    val_loader: Batches | None = None,
    config: TrainConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    part: EpochRange | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_epoch: Callable[[list[Row]], None] | None = None,
) -> FitResult:
    """Train the parameters of `model` that require grad; afterwards it holds those of the best epoch.

    With `config.average` an epoch's parameters are averages over the steps so far: in validation, in what is
    kept, and in what `on_epoch` finds in the model.

    Best is the highest validation accuracy, then the lowest validation loss; without `val_loader` the last
    epoch. With `checkpoint` the state is kept there after every epoch, and `resume` goes on from it to the
    same numbers as a training that was never interrupted. Under `torchrun` or `accelerate launch` each
    process gives its own share as loaders made with its `rank` and `world`.
    With `part` only these epochs of the schedule are trained, counted from 1 in the history; others, before
    or after, are another training's. Learning rates and orders of images are those of one.
    `on_epoch` is told the history after every epoch, and when a training is resumed, the one it goes on from.

    Warns where `config.batch_size` is set beside a loader of one's own, whose batches decide.

    Raises:
        ConfigError: the settings do not fit the model or the machine, or labels do not fit its head.
        RunError: the checkpoint cannot be resumed or written.
        Diverged: the loss or what is trained is no longer finite; of that epoch nothing is written.
    """
    config = TrainConfig() if config is None else config
    check_arguments(model, train_loader, val_loader, config)
    part = EpochRange(first=0, end=config.epochs) if part is None else part
    if part.end > config.epochs:
        raise ConfigError(f"part ends after epoch {part.end}; the schedule has {config.epochs}.")
    run = Epochs(model, train_loader, val_loader, config, part, on_step)
    progress = Progress(history=[], best={}, best_epoch=-1)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and resume and path.exists():
        progress = load_checkpoint(path, model, run.optimizer, run.scaler, config)
    average = AveragedWeights(run.trained, config.average, progress.average)

    def tell_epoch() -> None:
        if on_epoch is not None and run.accelerator.is_main_process:
            with average.in_place():
                on_epoch(progress.history)

    if progress.history:  # a kill may have come between a checkpoint and what is made of it
        tell_epoch()
    if not progress.history and waits_for_images(model):
        raise ConfigError(NEEDS_IMAGES)
    run.first_epoch = len(progress.history)
    for epoch in range(run.first_epoch, part.num_epochs):
        if progress.is_over(config.patience):
            break
        with run.frozen, written_out(model, run.autocast):
            with run.dropping:
                row = run.train_epoch(epoch, average)
            with average.in_place():
                row |= run.validate()
                run.check(row)
                if val_loader is None or progress.is_better(row):
                    progress.best, progress.best_epoch = trained_state(model), epoch
        progress.history.append(row)
        if path is not None and run.accelerator.is_main_process:
            save_checkpoint(path, model, run.optimizer, run.scaler, progress, config)
        tell_epoch()
    run.replayed = None  # it holds the run in a circle, and memory of the GPU
    load_trained(model, progress.best)
    return FitResult(history=progress.history, best_epoch=progress.best_epoch + 1)
