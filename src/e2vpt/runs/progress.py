"""What a person sees while the computer works: bars on the terminal, one line per epoch anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from e2vpt.errors import in_lines, visible
from e2vpt.runs.reporting import Reporting

if TYPE_CHECKING:
    from e2vpt.training.checkpoint import Row
    from e2vpt.training.step_report import StepReport

console = Console(stderr=True, highlight=False)
"""Progress goes to stderr, so that results on stdout can be piped."""


def say(text: str) -> None:
    """Words for a person, on stderr; names in them safe to print."""
    console.print(escape("\n".join(map(visible, text.split("\n")))), soft_wrap=True)


def left_out_text(problems: Mapping[str, str]) -> str:
    """Images that were left out, each with the reason."""
    listed = in_lines([f"{name}: {why}" for name, why in problems.items()])
    return f"{len(problems)} unreadable image(s) left out:\n{listed}"


def per_block(counts: tuple[int, ...]) -> str:
    """Numbers of prompts in words."""
    if len(set(counts)) == 1:
        return f"{counts[0]} in each of {len(counts)} blocks"
    return f"by block {', '.join(map(str, counts))}"


def percent(share: float) -> str:
    """An accuracy of 0 to 1 as every command prints it."""
    return f"{share:.1%}"


class _Left(ProgressColumn):
    """Time left, as the task's own `left` field says."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("left", ""), style="progress.remaining")


def image_check(what: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """A bar that counts images: update(done, total)."""
    return _counting(what)


def countdown(what: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """A bar with the time left, for steps that take about as long as each other: update(done, total)."""
    return _counting(what, TimeRemainingColumn())


@contextmanager
def _counting(what: str, *columns: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        # Nothing is shown before the first count: the total is not known yet.
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def reported() -> Iterator[Reporting]:
    """A bar for trainings and for scoring, a line for each stage and each finished epoch."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        _Left(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None, figures="", left="")

        def on_step(report: StepReport) -> None:
            bar.update(
                task,
                description=f"Epoch {report.epoch}/{report.epochs}",
                completed=(report.epoch - 1) * report.steps + report.step,
                total=report.epochs * report.steps,
                figures=_figures(report),
                left=f"{duration(report.seconds_left)} left",
            )

        def on_images(done: int, total: int) -> None:
            counted = f"{done}/{total} images"
            bar.update(task, description="Scoring", completed=done, total=total, figures=counted, left="")

        def on_epoch(row: Row) -> None:
            console.print(_line(row))

        yield Reporting(on_stage=say, on_step=on_step, on_epoch=on_epoch, on_images=on_images)


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 42 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _figures(report: StepReport) -> str:
    memory = f"{report.memory / 2**30:.1f} GiB"
    speed = f"{report.images_per_second:.0f} images/s"
    return f"loss {report.loss:.3f}  accuracy {percent(report.accuracy)}  {speed}  {memory}"


def _line(row: Row) -> str:
    text = f"epoch {row['epoch']:3.0f}"
    text += f"  train loss {row['train_loss']:.3f}  accuracy {percent(row['train_accuracy'])}"
    if "val_accuracy" in row:
        text += f"  |  val loss {row['val_loss']:.3f}  accuracy {percent(row['val_accuracy'])}"
    return text
