"""Who is told what while trainings go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from e2vpt.training.checkpoint import Row
from e2vpt.training.processes import process_rank
from e2vpt.training.step_report import StepReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Reporting:
    """Who is told what: `on_stage` in words what begins, the others as in `train_run`.

    Only the first of several processes tells.
    """

    on_stage: Callable[[str], None] | None = None
    on_step: Callable[[StepReport], None] | None = None
    on_epoch: Callable[[Row], None] | None = None

    def stage(self, text: str) -> None:
        """Say what begins."""
        if self.on_stage is not None and process_rank()[0] == 0:
            self.on_stage(text)
