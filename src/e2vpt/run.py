"""A run folder: one training from data to adapter, and what it leaves behind.

config.json              everything that was asked for
log.jsonl, log.csv       one row of figures per epoch
checkpoint.safetensors   the state after the last finished epoch, for --resume
last.safetensors         the adapter after the last finished epoch
adapter.safetensors      the adapter of the best epoch; written when the training is over
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from e2vpt.adapter import save_adapter
from e2vpt.backbones import fingerprint, load_backbone
from e2vpt.checkpoint import Row
from e2vpt.config import DataConfig, PromptConfig, TrainConfig, from_dict, to_dict
from e2vpt.data import Preprocessing, Split, Task, make_loader, preprocessing_for
from e2vpt.data.loaders import Loader
from e2vpt.errors import ConfigError, RunError
from e2vpt.model import init_from_images, prompt
from e2vpt.processes import process_rank
from e2vpt.storage import write_atomic
from e2vpt.train import FitResult, StepReport, fit

ADAPTER, UNPRUNED, LAST, CHECKPOINT, CONFIG = (
    "adapter.safetensors",
    "unpruned.safetensors",
    "last.safetensors",
    "checkpoint.safetensors",
    "config.json",
)
METHODS = ("e2vpt", "linear")
_PLAIN = ("backbone", "weights", "method", "adapter_precision", "source")
_INIT_IMAGES = 64
_KEEP_BYTES = 2**30
"""Preprocessed images kept in memory, for each split: 1,700 of 224 px."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that defines a run.

    Attributes:
        backbone, weights: as in `load_backbone`.
        method: "e2vpt", or "linear" for a head alone.
        adapter_precision: of the numbers in the adapter file.
        source: where the images came from, as a command was told; for the next command only.
    """

    backbone: str
    weights: str | None = None
    method: str = "e2vpt"
    prompts: PromptConfig = field(default_factory=PromptConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapter_precision: Literal["fp32", "fp16"] = "fp32"
    source: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method is {self.method!r}; expected one of {', '.join(METHODS)}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        parts = {"prompts": to_dict(self.prompts), "data": to_dict(self.data), "train": to_dict(self.train)}
        return {name: getattr(self, name) for name in _PLAIN} | parts


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What every training of a run shares.

    Attributes:
        task, config: as the run was asked for.
        model: the prompted backbone, at its initial values.
        preprocessing: how images become its input.
        train, val: this process's batches; `val` is None where there are no validation images.
        fingerprint: of the backbone's weights, as it is slow to compute.
    """

    task: Task
    config: RunConfig
    model: nn.Module
    preprocessing: Preprocessing
    train: Loader
    val: Loader | None
    fingerprint: str


def train_run(
    task: Task,
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    on_step: Callable[[StepReport], None] | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> Trained:
    """Train one task into a run folder.

    Raises:
        RunError: `out` holds a run already and `resume` is False, or was made with other settings, or
            cannot be written.
        And what backbones, prompts and training raise.
    """
    open_run(task, config, Path(out), resume=resume)
    prepared = prepare(task, config)
    result = train_into(prepared, Path(out), resume=resume, on_step=on_step, on_epoch=on_epoch)
    return Trained(
        model=prepared.model.eval(),
        preprocessing=prepared.preprocessing,
        adapter=Path(out) / ADAPTER,
        result=result,
    )


def open_run(task: Task, config: RunConfig, out: Path, *, resume: bool) -> None:
    """Create a run folder with its config, or check that the run in it is the one to be resumed.

    Raises:
        RunError: it holds another run, or cannot be written.
    """
    if process_rank()[0] == 0:
        _open_folder(out, config.to_dict() | {"task": task.name, "classes": list(task.classes)}, resume)


def prepare(task: Task, config: RunConfig) -> Prepared:
    """Build the model of a run, its prompts and head drawn by the run's seed."""
    if config.data.train_on == "train+val":
        task = task.train_and_val()
    torch.manual_seed(config.train.seed)
    model = build_model(config, num_classes=len(task.classes))
    preprocessing = preprocessing_for(model, config.data)
    if "patch" in (config.prompts.init, config.prompts.kv_init):
        init_from_images(model, _first_images(task.train, preprocessing))
    share = process_rank()
    return Prepared(
        task=task,
        config=config,
        model=model,
        preprocessing=preprocessing,
        train=_train_loader(task.train, preprocessing, config, *share),
        val=None if task.val is None else eval_loader(task.val, preprocessing, config, *share),
        fingerprint=fingerprint(model),
    )


def train_into(
    prepared: Prepared,
    out: Path,
    *,
    resume: bool,
    adapter: str = ADAPTER,
    on_step: Callable[[StepReport], None] | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> FitResult:
    """Train the model as it is now, log and adapters going to `out`; afterwards it holds the best epoch.

    The best epoch's adapter is written under the name `adapter`.
    """
    out.mkdir(parents=True, exist_ok=True)

    def after_epoch(history: list[Row]) -> None:
        _write_log(out, history)
        save_run_adapter(prepared, out / LAST, _metrics(history, len(history) - 1))
        if on_epoch is not None:
            on_epoch(history[-1])

    result = fit(
        prepared.model,
        prepared.train,
        prepared.val,
        prepared.config.train,
        checkpoint=out / CHECKPOINT,
        resume=resume,
        on_step=on_step,
        on_epoch=after_epoch,
    )
    if process_rank()[0] == 0:
        save_run_adapter(prepared, out / adapter, _metrics(result.history, result.best_epoch))
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


def build_model(config: RunConfig, *, num_classes: int) -> nn.Module:
    """The backbone of a run with its prompts, initialised from the global random state."""
    model: nn.Module = load_backbone(
        config.backbone, num_classes=num_classes, weights=config.weights, image_size=config.data.image_size
    )
    alone = PromptConfig(num_visual=0, num_kv=0)
    return prompt(model, alone if config.method == "linear" else config.prompts)


def eval_loader(
    split: Split, preprocessing: Preprocessing, config: RunConfig, rank: int = 0, world: int = 1
) -> Loader:
    """Batches of a split, in order, without augmentation."""
    size, workers = config.train.batch_size, config.data.workers
    return make_loader(
        split,
        preprocessing,
        batch_size=size,
        workers=workers,
        rank=rank,
        world=world,
        keep_bytes=_KEEP_BYTES,
    )


def adapter_path(adapter_or_run: str | Path) -> Path:
    """The adapter file meant by a file or a run folder.

    Raises:
        RunError: the folder has no finished training, or there is nothing at this path.
    """
    path = Path(adapter_or_run)
    if path.is_dir():
        if not (path / ADAPTER).exists():
            raise RunError(
                f"{path} has no {ADAPTER}: its training is not finished. Finish it with "
                f"`e2vpt train ... --out {path} --resume`, or name {path / LAST}."
            )
        return path / ADAPTER
    if not path.exists():
        raise RunError(f"{path} does not exist; expected an adapter file or a run folder of `e2vpt train`.")
    return path


def saved_data_config(adapter_or_run: str | Path) -> DataConfig:
    """The data settings of the run an adapter lies in, or the defaults for an adapter alone."""
    path = Path(adapter_or_run)
    config = (path if path.is_dir() else path.parent) / CONFIG
    return from_dict(DataConfig, _read_config(config)["data"]) if config.exists() else DataConfig()


def saved_run_config(run: str | Path) -> RunConfig:
    """The settings of the run in a folder.

    Raises:
        RunError: there is no run, or its settings cannot be read.
    """
    path = Path(run) / CONFIG
    if not path.exists():
        raise RunError(f"{run} holds no run of `e2vpt train`: there is no {path}.")
    values = _read_config(path)
    try:
        return RunConfig(
            prompts=from_dict(PromptConfig, values["prompts"]),
            data=from_dict(DataConfig, values["data"]),
            train=from_dict(TrainConfig, values["train"]),
            **{name: values[name] for name in _PLAIN},
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{path} cannot be used ({error}). Restore it, or start a new run.") from error


def _open_folder(out: Path, wanted: Mapping[str, Any], resume: bool) -> None:
    if (out / CONFIG).exists():
        if not resume:
            raise RunError(f"{out} holds a run already. Go on with it by --resume, or choose another --out.")
        saved = _read_config(out / CONFIG)
        asked = json.loads(json.dumps({name: value for name, value in wanted.items() if name != "source"}))
        different = sorted(name for name in asked if saved.get(name) != asked[name])
        if different:
            raise RunError(
                f"{out} was made with other settings ({', '.join(different)}; see {out / CONFIG}). "
                "Resume with the same command, or choose another --out."
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and is not a run of e2vpt. Choose another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot create {out}: {error.strerror or error}.") from error
    write_atomic(out / CONFIG, (json.dumps(wanted, indent=2) + "\n").encode())


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict) or not isinstance(values.get("data"), dict):
            raise ValueError("expected an object with 'data'")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}). Restore it, or start a new run.") from error
    return values


def _train_loader(
    split: Split, preprocessing: Preprocessing, config: RunConfig, rank: int, world: int
) -> Loader:
    return make_loader(
        split,
        preprocessing,
        batch_size=config.train.batch_size,
        augment=config.data.augment,
        shuffle=True,
        seed=config.train.seed,
        workers=config.data.workers,
        rank=rank,
        world=world,
        accumulation=config.train.accumulation,
        keep_bytes=_KEEP_BYTES,
    )


def _first_images(split: Split, preprocessing: Preprocessing) -> torch.Tensor:
    """One batch of training images, the same on every process."""
    loader = make_loader(split, preprocessing, batch_size=_INIT_IMAGES, shuffle=True)
    return next(iter(loader))[0]


def _metrics(history: list[Row], epoch: int) -> dict[str, float]:
    row = history[epoch]
    return {"epoch": epoch + 1.0} | {name: row[name] for name in ("val_accuracy", "val_loss") if name in row}


def _write_log(out: Path, history: list[Row]) -> None:
    """Both logs whole, after every epoch: a killed run leaves no half line, a resumed one no gap."""
    write_atomic(out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in history).encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomic(out / "log.csv", table.getvalue().encode())
