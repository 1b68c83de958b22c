"""The epochs of one training: steps over batches, and validation.

A batch is what the optimizer sees: its size does not depend on how many processes or accumulation parts
compute it, and neither does the result. Each step's loss is a sum over the batch divided by the batch's
total class weight, so uneven shares need no care.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sized
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from e2vpt.backbones.batches import check_labels, num_outputs
from e2vpt.config import TrainConfig
from e2vpt.errors import ConfigError, DataError
from e2vpt.training.average import AveragedWeights
from e2vpt.training.checkpoint import Row, trained_parameters
from e2vpt.training.drop_path import DroppedPaths
from e2vpt.training.evaluate import Metrics, evaluate
from e2vpt.training.finite import check_finite, overflow_is_divergence
from e2vpt.training.frozen import HeldFrozen
from e2vpt.training.loss import mixed, summed_hits, summed_loss, summed_weight
from e2vpt.training.optimizer import class_weights, make_optimizer
from e2vpt.training.processes import open_processes, shared_by_processes
from e2vpt.training.replay import Replayed, can_be_captured
from e2vpt.training.schedule import EpochRange, learning_rate, set_learning_rate
from e2vpt.training.step_report import StepReport, StepTeller
from e2vpt.training.steps import Batches, set_epoch, steps
from e2vpt.training.sums import RunningSums

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions of a TrainConfig as the dtype of autocast."""


class Epochs:
    """What the epochs of one training share."""

    def __init__(
        self,
        model: nn.Module,
        train_loader: Batches,
        val_loader: Batches | None,
        config: TrainConfig,
        part: EpochRange,
        on_step: Callable[[StepReport], None] | None,
    ) -> None:
        self.accelerator = open_processes()
        self.config, self.part = config, part
        device = self.accelerator.device
        if config.precision == "fp16" and device.type == "cpu":
            raise ConfigError("precision fp16 needs a GPU; on a CPU use bf16 or fp32.")
        if config.grad_checkpointing:
            _enable_checkpointing(model)
        self.autocast = AUTOCAST[config.precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.plain = model.to(device)
        self.model = shared_by_processes(self.plain, self.accelerator)
        self.frozen, self.dropping = HeldFrozen(model, self.autocast), DroppedPaths(model, config.drop_path)
        self.trained = trained_parameters(model)
        if not self.trained:
            raise ConfigError("Nothing to train: no parameter of this model requires grad.")
        self.optimizer = make_optimizer(self.trained, config, model)
        self.train_loader, self.val_loader = train_loader, val_loader
        self.num_steps = math.ceil(len(cast(Sized, train_loader)) / config.accumulation)
        if not self.num_steps:
            raise DataError("The training loader has no batch.")
        self.outputs = num_outputs(model)
        if config.mixup and not self.outputs:
            raise ConfigError("mixup needs a model whose head is a linear layer, to know its classes.")
        check_labels(torch.as_tensor(getattr(train_loader, "labels", ())), self.outputs)
        parameters = list(self.trained.values())
        self.last_parts: list[tuple[Tensor, Tensor]] = []
        self.class_weights = class_weights(train_loader, config, model, parameters[0])
        self.first_epoch = 0
        listener = on_step if self.accelerator.is_main_process else None
        self.tell = StepTeller(listener, part.num_epochs, self.num_steps, self.accelerator)
        self.replayed = Replayed(self._forward_backward, parameters) if self._can_replay() else None

    def train_epoch(self, epoch: int, average: AveragedWeights) -> Row:
        """One pass over the training images; the weights after every step go into the average."""
        config, rank = self.config, self.accelerator.process_index
        scheduled = self.part.first + epoch
        set_epoch(self.train_loader, scheduled)  # It may evaluate the model, which draws random numbers.
        torch.manual_seed(_seed(config.seed, scheduled, rank))
        self.model.train()
        began, figures, lr = time.monotonic(), RunningSums(4), 0.0
        first = scheduled * self.num_steps
        for index, parts in enumerate(steps(self.train_loader, config.accumulation)):
            lr = learning_rate(first + index, self.num_steps * config.epochs, config)
            self._check_labels(parts, epoch)
            given = parts
            if config.mixup and self.outputs:
                given = mixed(parts, self.outputs, config.mixup, (config.seed, scheduled, index, rank))
            with overflow_is_divergence(epoch + 1):
                self._step(given, lr, figures)
            average.add(epoch * self.num_steps + index + 1)
            self.last_parts = parts
            self.tell(epoch, index + 1, figures, began)
        weighted_loss, weight, hits, images = self._sum(figures.read()).tolist()
        return {
            "epoch": epoch + 1,
            "lr": lr,
            "train_loss": weighted_loss / weight,
            "train_accuracy": hits / images,
        }

    def _check_labels(self, parts: list[tuple[Tensor, Tensor]], epoch: int) -> None:
        labels = torch.cat([part[1] for part in parts])
        # Labels on a device are waited for, so they are looked at once.
        wanted = labels.device.type == "cpu" or epoch == self.first_epoch
        if wanted and not hasattr(self.train_loader, "labels"):
            check_labels(labels, self.outputs)

    def _step(self, parts: list[tuple[Tensor, Tensor]], lr: float, figures: RunningSums) -> None:
        """One optimizer step over the parts of a batch; adds summed loss, summed weight, hits and images.

        Nothing in it waits for a GPU: the next step is queued while this one runs.
        """
        device, world = self.accelerator.device, self.accelerator.num_processes
        labels = [part[1].to(device, non_blocking=True) for part in parts]
        weights = torch.stack([summed_weight(y, self.class_weights) for y in labels])
        share = weights.sum()
        batch_weight = self.accelerator.reduce(share, "sum") if world > 1 else share
        # DDP averages gradients over processes; this batch wants their sum.
        scale = world / batch_weight
        work = self.replayed or self._forward_backward
        for index, ((images, _), y) in enumerate(zip(parts, labels, strict=True)):
            is_last = index == len(parts) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                loss, hits = work(images.to(device, non_blocking=True), y, scale)
            figures.add([loss, weights[index], hits, summed_weight(y, None)])
        set_learning_rate(self.optimizer, lr)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=self.replayed is None)

    def _forward_backward(self, images: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the gradients of a part of a batch; its summed loss and hits."""
        with torch.autocast(images.device.type, self.autocast, enabled=self.autocast is not None):
            logits = self.model(images)
        if images.device.type == "cpu" and labels.dim() == 1:  # also a head that is not known beforehand
            check_labels(labels, logits.shape[1])
        logits = logits.float() if self.autocast else logits
        loss = summed_loss(logits, labels, self.class_weights, self.config.label_smoothing)
        self.scaler.scale(loss * scale).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), summed_hits(logits, labels)

    def _can_replay(self) -> bool:
        """Whether a step may be captured: nothing in it meets other processes or asks for the host."""
        alone = self.accelerator.num_processes == 1 and not self.scaler.is_enabled()
        return alone and not self.config.grad_checkpointing and can_be_captured(self.plain)

    def validate(self) -> Row:
        """Loss and accuracy on the validation images."""
        if self.val_loader is None:
            return {}
        metrics = self._evaluate(self.val_loader)
        return {"val_loss": metrics.loss, "val_accuracy": metrics.accuracy}

    def check(self, row: Row) -> None:
        """Stop before a broken epoch is kept: the checkpoint of the epoch before stays as it is."""
        check_finite(row, row, self.optimizer)
        is_last = row["epoch"] == self.part.num_epochs
        if self.val_loader is None and is_last:  # nobody has seen yet what the last step made
            check_finite(row, {"a loss after the last step": self._evaluate(self.last_parts).loss})

    def _evaluate(self, loader: Batches) -> Metrics:
        # Not what DDP puts around the model: it would wait for processes that have fewer batches.
        return evaluate(self.plain, loader, reduce=self._sum, autocast=self.autocast)

    def _sum(self, values: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return values
        total: Tensor = self.accelerator.reduce(values.to(self.accelerator.device), "sum")
        return total.cpu()


def _enable_checkpointing(model: nn.Module) -> None:
    switch = getattr(model, "set_grad_checkpointing", None)
    if not callable(switch):
        raise ConfigError(f"grad_checkpointing: {type(model).__name__} has no set_grad_checkpointing().")
    switch(True)


def _seed(seed: int, epoch: int, rank: int) -> int:
    return ((seed * 1_000_003 + epoch) * 1_009 + rank) % 2**64
