"""One frozen backbone, many tasks: a forward pass in which every image has its own.

Shapes: B images, D features, C classes of a task, t rows of a table.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.adapters.fitting import Fitting
from e2vpt.adapters.info import AdapterInfo
from e2vpt.config.fields import check_count
from e2vpt.data.preprocess import check_rgb
from e2vpt.errors import AdapterError, ConfigError, check_type
from e2vpt.multitask.batch import of_batch, own_values
from e2vpt.multitask.graph import TasksGraph
from e2vpt.multitask.layout import VectorLayout
from e2vpt.multitask.registry import Registry
from e2vpt.multitask.slots import Head, Slots
from e2vpt.multitask.values import NOTHING, Host, HostBlock, TaskValues
from e2vpt.prompting.rows import applied, install_rows
from e2vpt.prompting.sites import find_sites
from e2vpt.runs.folders.finding import adapter_path


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoadedTask:
    """A task as it was loaded, its values in memory: no later change of its name or file reaches it.

    Attributes:
        info: what its adapter says.
        values: what it brings to the backbone.
    """

    info: AdapterInfo
    values: TaskValues


class MultiTask:
    """Tasks that share a frozen backbone, and even a batch (for whoever serves many).

        tasks = e2vpt.MultiTask(backbone)
        tasks.load("pets", "pets.safetensors")
        logits = tasks(images, ["pets", "cars", "pets"])    # one forward pass; a [C] tensor for each image

    Tasks may be loaded, replaced and removed by other threads meanwhile: a batch computes with the tasks as
    they were when it was called. Where there are more than memory holds, the least recently used make room.

    Args:
        backbone: a timm vision transformer without prompts, of the weights that the adapters were made for.
            It is taken: it loses its head, and predicts through this object from now on.
        on_device: tasks whose values are on the device at a time; the most in one batch.
        in_memory: tasks whose values are in memory at a time; others are read again from their files.
        device_bytes: bound on the bytes of the tasks' values on the device; their heads may take as many
            again. The longest task sets what the values of each of them take. None: no bound.

    Raises:
        UnsupportedBackbone: the backbone takes no prompts.
        ConfigError: it has prompts already, or does not take RGB images.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        on_device: int = 1024,
        in_memory: int = 16384,
        device_bytes: int | None = None,
    ) -> None:
        check_type("backbone", backbone, nn.Module)
        check_count("on_device", on_device, 1)
        check_count("in_memory", in_memory, 1)
        if device_bytes is not None:
            check_count("device_bytes", device_bytes, 1)
        check_rgb(backbone)
        sites = find_sites(backbone)
        adapters = Fitting(backbone)
        blocks = [HostBlock.of(site) for site in sites]
        self._rows = install_rows(backbone)
        self._model = backbone.eval()
        own = own_values(backbone)
        host = Host(adapters=adapters, blocks=blocks, tunable=own.keys())
        self._own, self._on_device, self._device_bytes = own, on_device, device_bytes
        self._registry = Registry(host, in_memory)
        self._device = threading.Lock()
        self._slots = self._new_slots()

    @property
    def names(self) -> tuple[str, ...]:
        """All tasks, in the order in which they were loaded first."""
        return tuple(self._registry.entries)

    @property
    def slots(self) -> Slots:
        """What lies on the device."""
        return self._slots

    @property
    def num_in_memory(self) -> int:
        """Tasks whose values are in memory; others are read again when they are asked for."""
        return self._registry.num_in_memory

    def to(self, *args: Any, **kwargs: Any) -> MultiTask:
        """Move to another device or precision; arguments as of `torch.nn.Module.to`. Returns itself."""
        with self._device:
            self._model.to(*args, **kwargs)
            self._slots = self._new_slots()
        return self

    def _new_slots(self) -> Slots:
        return Slots(self._own, next(self._model.parameters()), self._on_device, self._device_bytes)

    def info(self, name: str) -> AdapterInfo:
        """What a task's adapter says: classes, preprocessing, method.

        Raises:
            ConfigError: there is no such task.
        """
        return self._registry.named([name])[0].info

    def loaded(self, name: str) -> LoadedTask:
        """A task as it is now, read from its file again where its values are not in memory.

        Given in place of its name, a batch computes with this very version, whatever is loaded since.

        Raises:
            ConfigError: there is no such task.
            AdapterError: its file has changed or cannot be read.
        """
        while True:
            (entry,) = self._registry.named([name])
            try:
                (values,) = self._registry.values([entry])
            except AdapterError:
                if self._registry.entries.get(name) is entry:
                    raise
            else:
                return LoadedTask(info=entry.info, values=values)

    def load(self, name: str, path: str | PathLike[str]) -> AdapterInfo:
        """Put an adapter file, or that of a run folder, under a name, in place of what was there.

        Raises:
            RunError: no finished run at this path.
            AdapterFormatError: truncated, altered, hostile, or of a newer format.
            BackboneMismatch: made for another backbone, or by a method that changes what tasks share.
            ConfigError: a name that is empty or not printable, or a task longer than `device_bytes`.
        """
        check_type("name", name, str)
        check_type("path", path, str, PathLike)
        entry, unneeded = self._registry.load(name, adapter_path(Path(path)), self._check_fits)
        self._drop(unneeded)
        return entry.info

    def preload(self) -> None:
        """Bring tasks to the device before the first image asks for them, as many as there is room for."""
        entries = list(self._registry.entries.values())[-self._on_device :]
        tasks = self._registry.values(entries)
        with self._device:
            self._slots.rows(self._slots.last_that_fit(tasks))

    def remove(self, name: str) -> None:
        """Forget a task.

        Raises:
            ConfigError: there is no such task.
        """
        self._drop(self._registry.remove(name))

    def __call__(self, images: Tensor, names: Iterable[str | LoadedTask]) -> list[Tensor]:
        """The logits [C] of every image [B, 3, h, w] in its own task.

        Images are preprocessed as their task's `info` says. In place of a name may stand what `loaded` gave.
        The name "" stands for the backbone alone, and gives its feature [D].

        Raises:
            ConfigError: an unknown name, not one name for each image, or more tasks than `on_device`.
            AdapterError: the file of a task that is not in memory has changed.
        """
        features, heads = self._forward(images, names)
        present = [head for head in heads if head is not None]
        if not present:
            return list(features.unbind())
        # Images of one task share its head, so that is multiplied by once.
        different = {id(head): head for head in present}
        weight, bias = (torch.cat(parts) for parts in zip(*different.values(), strict=True))
        every = torch.addmm(bias, features, weight.T)
        ends = dict(zip(different, accumulate(len(head[1]) for head in different.values()), strict=True))
        return [
            features[row] if head is None else every[row, ends[id(head)] - len(head[1]) : ends[id(head)]]
            for row, head in enumerate(heads)
        ]

    def embed(self, images: Tensor, names: Iterable[str | LoadedTask]) -> Tensor:
        """What each image's head sees: features [B, D]; arguments as for a call."""
        return self._forward(images, names)[0]

    @torch.inference_mode()
    def _forward(self, images: Tensor, names: Iterable[str | LoadedTask]) -> tuple[Tensor, list[Head | None]]:
        tasks = self._values(images, names)
        with self._device:
            digests = {task.digest for task in tasks}
            is_one = len(digests) == 1
            vectors, heads = self._slots.rows(tasks[:1] if is_one else tasks)
            self._drop_replaced(digests)
            values_by_name, tables = of_batch(self._slots.layout, vectors, tasks[: len(vectors)])
            images = images.to(vectors.device, vectors.dtype)
            with applied(self._rows, values_by_name, tables):
                features: Tensor = self._model(images)
        heads = heads * len(tasks) if is_one else heads
        return features, [head if len(head[1]) else None for head in heads]

    def _values(self, images: Tensor, names: Iterable[str | LoadedTask]) -> list[TaskValues]:
        check_type("images", images, Tensor)
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            check_type("a task's name", name, str, LoadedTask)
        if images.dim() != 4 or not len(images) == len(names) > 0:
            raise ConfigError(
                f"images have shape {list(images.shape)} for {len(names)} names; expected [B, 3, h, w] and a "
                "name for each of the B images."
            )
        entries = self._registry.named([name for name in names if isinstance(name, str) and name])
        found = iter(self._registry.values(entries))
        return [
            name.values if isinstance(name, LoadedTask) else next(found) if name else NOTHING
            for name in names
        ]

    def graph(self) -> TasksGraph:
        """All tasks as they are now, as one function for exporters: a copy, on the CPU, in float32.

        Raises:
            ConfigError: there is no task, or the backbone is in half precision.
        """
        names = self.names
        if not names:
            raise ConfigError("There is no task to make a graph of. Load one first.")
        dtype = next(self._model.parameters()).dtype
        if dtype in (torch.bfloat16, torch.float16):
            raise ConfigError(f"The backbone was rounded to {dtype}. Load it again, in float32.")
        values = self._registry.values(self._registry.named(names))
        with self._device:
            model, rows = copy.deepcopy((self._model, self._rows))
        own = {name: tensor.detach().float().cpu() for name, tensor in self._own.items()}
        return TasksGraph(model.cpu().float(), rows, own, dict(zip(names, values, strict=True)))

    def _check_fits(self, path: Path, values: TaskValues) -> None:
        if not self._slots.most(VectorLayout.of(values.by_name)):
            size = sum(value.numel() for value in values.by_name.values())
            raise ConfigError(f"{path} brings {size:,} numbers, more than device_bytes has room for.")

    def _drop_replaced(self, digests: Iterable[str]) -> None:
        """A version that no name has any more keeps no place on the device; nothing would free it."""
        for digest in digests:
            if not self._registry.needs(digest):
                self._slots.drop(digest)

    def _drop(self, digest: str) -> None:
        if digest:
            with self._device:
                self._slots.drop(digest)
