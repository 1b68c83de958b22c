"""What a report holds, gathered: of a run in its folder, or of an adapter on any labelled images."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import e2vpt
from e2vpt.adapters.files import read_adapter
from e2vpt.adapters.info import AdapterInfo
from e2vpt.data import Task
from e2vpt.insight.reports.calibration import fit_temperature
from e2vpt.insight.reports.measured import Measured, measure_images
from e2vpt.insight.reports.record import RunRecord, read_record
from e2vpt.runs.folders.finding import run_of, task_name
from e2vpt.runs.folders.folder import holds_run
from e2vpt.runs.folders.run_config import trained_on
from e2vpt.runs.models.load import load
from e2vpt.runs.models.task_model import TaskModel


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunReport:
    """What a report holds.

    Attributes:
        name: of the task.
        adapter: the adapter file.
        info: what it says of itself.
        record: its run; None for an adapter alone.
        measured: the answers to images that were set aside, the most telling first: test, then validation.
        temperature: fitted on validation images; None where that cannot be done.
        environment: versions and machine.
        made: the day.
    """

    name: str
    adapter: Path
    info: AdapterInfo
    record: RunRecord | None
    measured: tuple[Measured, ...]
    temperature: float | None
    environment: Mapping[str, str]
    made: str


def run_report(
    record: RunRecord, task: Task, *, on_images: Callable[[int, int], None] | None = None
) -> RunReport:
    """The report of a run whose images are `task`."""
    model = load(record.folder)
    splits = {name: split for name, split in task.splits().items() if name != "train"}
    if trained_on(record.folder, record.config) == "train+val":
        splits.pop("val", None)
    total, before, measured = sum(map(len, splits.values())), 0, []
    for name in sorted(splits):  # test, then val
        start = before

        def tell(done: int, _: int, start: int = start) -> None:
            if on_images is not None:
                on_images(start + done, total)

        measured.append(measure_images(model, splits[name], name, on_images=tell))
        before += len(splits[name])
    return _report(model, record, measured)


def calibrated(report: RunReport) -> RunReport:
    """The report of the same adapter now that its head was divided by `report.temperature`.

    Logits are divided alike, which spares a second evaluation: they equal the new adapter's but for rounding.
    """
    temperature = report.temperature
    assert temperature is not None
    measured = [dataclasses.replace(m, logits=m.logits / temperature) for m in report.measured]
    return dataclasses.replace(
        report,
        info=read_adapter(report.adapter),
        measured=tuple(measured),
        temperature=_temperature(measured),
    )


def adapter_report(model: TaskModel, measured: Measured) -> RunReport:
    """The report of an adapter on images that need not be those of its run."""
    run = run_of(model.path, model.info.classes, model.info.fingerprint)
    if run is None or run != model.path.absolute().parent or not holds_run(run):
        return _report(model, None, [measured])
    return _report(model, read_record(run), [measured])


def _report(model: TaskModel, record: RunRecord | None, measured: Sequence[Measured]) -> RunReport:
    return RunReport(
        name=record.task if record else task_name(model.path),
        adapter=model.path,
        info=read_adapter(model.path),
        record=record,
        measured=tuple(measured),
        temperature=_temperature(measured),
        environment=_environment(model),
        made=datetime.date.today().isoformat(),
    )


def _temperature(measured: Sequence[Measured]) -> float | None:
    val = next((m for m in measured if m.split == "val"), None)
    return fit_temperature(val.logits, val.labels) if val else None


def _environment(model: TaskModel) -> dict[str, str]:
    device = next(model.model.parameters()).device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "e2vpt": e2vpt.__version__,
        "Python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "timm", "numpy", "pillow")},
        "system": f"{platform.system()} {platform.machine()}",
        "evaluated on": gpu or f"{device.type}, {torch.get_num_threads()} threads",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
