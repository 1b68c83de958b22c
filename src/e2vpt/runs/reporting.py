"""Who is told what while trainings go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Commands that only talk start without torch.
    from e2vpt.training.checkpoint import Row
    from e2vpt.training.step_report import StepReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Reporting:
    """Who is told what: `on_stage` in words what begins, `on_images` how many of how many images are scored,
    the others as in `train_run`.

    Only the first of several processes tells.
    """

    on_stage: Callable[[str], None] | None = None
    on_step: Callable[[StepReport], None] | None = None
    on_epoch: Callable[[Row], None] | None = None
    on_images: Callable[[int, int], None] | None = None

    def before(self, trainings: int) -> Reporting:
        """The same for a training that so many others follow: the time left counts them too."""
        tell, whole = self.on_step, 0.0

        def on_step(report: StepReport) -> None:
            nonlocal whole
            assert tell is not None
            epochs_left = report.epochs - report.epoch + 1 - report.step / report.steps
            if epochs_left > 0:  # After the last step, as long as before it.
                whole = report.seconds_left / epochs_left * report.epochs
            tell(dataclasses.replace(report, seconds_left=report.seconds_left + trainings * whole))

        return dataclasses.replace(self, on_step=on_step) if tell is not None and trainings else self

    def also(self, on_epoch: Callable[[Row], None] | None) -> Reporting:
        """The same, and another one who is told of every epoch."""
        first = self.on_epoch
        if on_epoch is None or first is None:
            return self if on_epoch is None else dataclasses.replace(self, on_epoch=on_epoch)

        def both(row: Row) -> None:
            first(row)
            on_epoch(row)

        return dataclasses.replace(self, on_epoch=both)

    def bars(self) -> Reporting:
        """Steps only: with many trainings a line for each stage and epoch would bury what matters."""
        return Reporting(on_step=self.on_step)

    def counting(self, total: int) -> Callable[[int], None]:
        """Tells `on_images`, each time it is called with how many more images are done."""
        from e2vpt.training.processes import is_first_process

        done = 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            if self.on_images is not None and is_first_process():
                self.on_images(done, total)

        return count

    def stage(self, text: str) -> None:
        """Say what begins."""
        from e2vpt.training.processes import is_first_process

        if self.on_stage is not None and is_first_process():
            self.on_stage(text)
