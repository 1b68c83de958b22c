"""`e2vpt bench tasks`: a batch of many tasks beside one task, beside the plain backbone, and beside what else
an operator could do: LoRA adapters chosen by row (PEFT), or a forward pass for each task."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from e2vpt.adapters.files import load_adapter, save_adapter
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.speed.clock import Timing, take_turns
from e2vpt.benchmarks.speed.contestants import Case
from e2vpt.benchmarks.speed.measure import case_in_words
from e2vpt.benchmarks.tables import markdown_table
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.config.fields import check_count
from e2vpt.errors import needs
from e2vpt.files.atomic import write_atomic, write_csv
from e2vpt.methods.adapt import adapt
from e2vpt.multitask.tasks import MultiTask
from e2vpt.prompting.folding import folded

Beside = Literal["none", "bias", "scale"]
_TITLES: dict[Beside, str] = {"none": "prompts", "bias": "prompts and biases", "scale": "the default recipe"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """One way to answer a batch.

    Attributes:
        name: in words.
        timing: beside the plain backbone's forward pass.
        bytes: on the device for each task, and seconds to load one; None where there is no such thing.
    """

    name: str
    timing: Timing
    bytes: int | None = None
    load_seconds: float | None = None


def measure_tasks(
    case: Case,
    *,
    num_loaded: int,
    rounds: int,
    num_visual: int = 10,
    on_stage: Callable[[str], None] = lambda text: None,
    on_call: Callable[[int, int], None] = lambda done, total: None,
) -> list[TaskRow]:
    """Time a batch of `case.batch_size` images, all of different tasks where not said otherwise.

    One model has `num_loaded` tasks loaded, the others as many as there are images. Values are random.

    Raises:
        MissingExtra: PEFT is not installed.
    """
    check_count("num_loaded", num_loaded, case.batch_size)
    check_count("rounds", rounds, 1)
    torch.manual_seed(0)
    backbone = case.make_backbone().eval()
    backbone.requires_grad_(False)
    images, _ = case.make_data(backbone)
    names = [str(index) for index in range(len(images))]
    runs: dict[str, Callable[[], Any]] = {"plain backbone": lambda: backbone(images)}
    hosts: dict[str, tuple[MultiTask, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for beside, title in _TITLES.items():
            folder = Path(temporary) / beside
            folder.mkdir()
            count = num_loaded if beside == "scale" else len(images)
            on_stage(f"Making and loading {count} adapters: {title}")
            write_adapters(backbone, folder, beside, num_visual, count)
            host, seconds = _host(backbone, folder, len(images))
            runs[f"{title}: every image its own task"] = _asking(host, images, names)
            runs[f"{title}: one task"] = _asking(host, images, names[:1] * len(names))
            hosts[f"{title}: every image its own task"] = (host, seconds)
            if beside == "scale":
                many, seconds = _host(backbone, folder, count)
                key = f"{title}: every image its own task, {count} loaded"
                spread_out = [str(index * count // len(names)) for index in range(len(names))]
                runs[key] = _asking(many, images, spread_out)
                hosts[key] = (many, seconds)
                single = load_adapter(folder / "0", copy.deepcopy(backbone))[0].to(case.device)
                runs[f"{title}: a forward pass for each image"] = _one_by_one(single, images)
        runs["LoRA r = 8 by row (PEFT)"] = _lora(backbone, images, names)
        on_stage("Taking turns")
        done = iter(range(1, len(runs) * (rounds + 1) + 1))
        total = len(runs) * (rounds + 1)
        with torch.inference_mode():
            timings = take_turns(runs, rounds, device=case.device, on_call=lambda: on_call(next(done), total))
    return [_row(name, timings[name], hosts.get(name)) for name in runs]


def _row(name: str, timing: Timing, host: tuple[MultiTask, float] | None) -> TaskRow:
    if host is None:
        return TaskRow(name=name, timing=timing)
    tasks, seconds = host
    return TaskRow(
        name=name,
        timing=timing,
        bytes=tasks.slots.num_bytes // max(1, len(tasks.slots)),
        load_seconds=seconds / len(tasks.names),
    )


def write_adapters(backbone: nn.Module, folder: Path, beside: Beside, num_visual: int, count: int) -> None:
    """Adapter files 0, 1, ... of random values: as trained ones, they differ in every number."""
    prompts = PromptConfig(num_visual=num_visual, num_kv=0)
    model = adapt(copy.deepcopy(backbone).cpu(), "e2vpt", prompts, MethodConfig(beside=beside))
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = [parameter.detach().clone() for parameter in tuned]
    for index in range(count):
        with torch.no_grad():
            for parameter, value in zip(tuned, start, strict=True):
                parameter.copy_(value + 0.02 * torch.randn_like(value))
        save_adapter(model, folder / str(index))


def _host(backbone: nn.Module, folder: Path, count: int) -> tuple[MultiTask, float]:
    """A model with so many tasks on the device, and the seconds that loading them took."""
    tasks = MultiTask(copy.deepcopy(backbone), on_device=max(count, 1))
    began = time.perf_counter()
    for index in range(count):
        tasks.load(str(index), folder / str(index))
    seconds = time.perf_counter() - began
    tasks.preload()
    return tasks, seconds


def _asking(tasks: MultiTask, images: Tensor, names: Sequence[str]) -> Callable[[], Any]:
    return lambda: tasks(images, names)


def _one_by_one(model: nn.Module, images: Tensor) -> Callable[[], Any]:
    def run() -> None:
        with folded(model):
            for image in images:
                model(image[None])

    return run


def _lora(backbone: nn.Module, images: Tensor, names: Sequence[str]) -> Callable[[], Any]:
    """PEFT's own way to give every row of a batch its own adapter."""
    with needs("bench", "LoRA is PEFT's"):
        import peft
    config = peft.LoraConfig(r=8, target_modules=r".*\.qkv", init_lora_weights=False)
    model = peft.get_peft_model(copy.deepcopy(backbone), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    model.eval()
    return lambda: model(images, adapter_names=list(names))


def write_task_report(out: Path, case: Case, rows: Sequence[TaskRow], machine: Mapping[str, str]) -> str:
    """tasks.md and tasks.csv in a folder; returns the Markdown."""
    cells = [
        [
            row.name,
            f"{row.timing.ratio:.2f} ({row.timing.ratio_low:.2f} to {row.timing.ratio_high:.2f})",
            f"{case.batch_size / row.timing.seconds:.1f}",
            "" if row.bytes is None else f"{row.bytes:,}",
            "" if row.load_seconds is None else f"{1e3 * row.load_seconds:.0f}",
        ]
        for row in rows
    ]
    head = ["a batch of", "time", "images/s", "bytes for each task", "ms to load one"]
    title = f"## {case_in_words(dataclasses.asdict(case))}"
    lines = [*report_head("Many tasks in one batch", machine), "", title, ""]
    lines += ["Time is beside the plain backbone's, in the same round: median, smallest, largest.", ""]
    text = "\n".join([*lines, *markdown_table(head, cells), ""])
    plain = [
        {"name": row.name, **dataclasses.asdict(row.timing), "bytes": row.bytes, "load": row.load_seconds}
        for row in rows
    ]
    write_csv(out / "tasks.csv", plain, list(plain[0]))
    write_atomic(out / "tasks.md", text.encode())
    return text
