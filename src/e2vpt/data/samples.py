"""One sample: an image of a split, transformed, its augmentation drawn from its own numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset

from e2vpt.data.randomness import derived_seed, seeded
from e2vpt.data.task import Split
from e2vpt.data.transforms import TrainTransform
from e2vpt.errors import UnreadableImages

EpochIndex = tuple[int, int]
"""The epoch travels with the index, so it reaches workers that live on."""
Sample = tuple[Tensor, int]


class ComputedDataset(Dataset[Sample]):
    """What was computed from the images of a split, once: row i of `values` stands for image i."""

    def __init__(self, split: Split, values: Tensor) -> None:
        self.split = split
        self.values = values

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: EpochIndex) -> Sample:
        """Row and label of (epoch, index)."""
        return self.values[key[1]], self.split.labels[key[1]]

    def __getitems__(self, keys: Sequence[EpochIndex]) -> tuple[Tensor, Tensor]:
        """A whole batch at once, where the values lie: one copy on a GPU."""
        rows = torch.tensor([index for _, index in keys])
        labels = torch.tensor([self.split.labels[index] for _, index in keys])
        return self.values[rows.to(self.values.device)], labels


class TaskDataset(Dataset[Sample]):
    """The transformed images of a split. What a sample looks like depends on (seed, epoch, index) only.

    With `keep_bytes` what needs no chance is done once for each image, while the results fit into so many
    bytes; `as_stored` as in `ImageSource.open`.
    """

    def __init__(
        self,
        split: Split,
        transform: TrainTransform,
        seed: int = 0,
        keep_bytes: int = 0,
        as_stored: bool = False,
    ) -> None:
        self.split = split
        self.transform = transform
        self.seed = seed
        self._kept: dict[int, Tensor] = {}
        self._room = keep_bytes
        self._as_stored = as_stored

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: EpochIndex) -> Sample:
        """Image [3, H, W] and label of (epoch, index).

        Raises:
            UnreadableImages: the image does not decode.
        """
        epoch, index = key
        kept, label = self._kept.get(index), self.split.labels[index]
        if kept is not None and self.transform.finish is None:
            return kept, label
        with seeded(derived_seed("sample", self.seed, epoch, index)):
            return self.transform.finished(self._begun(index) if kept is None else kept), label

    def _begun(self, index: int) -> Tensor | Image:
        begun, is_same = self.transform.begun(self.split.images[index].open(self._as_stored))
        if is_same and isinstance(begun, Tensor) and begun.nbytes <= self._room:
            self._kept[index], self._room = begun, self._room - begun.nbytes
        return begun

    def __getitems__(self, keys: Sequence[EpochIndex]) -> list[Sample | UnreadableImages]:
        """Several samples for the DataLoader, which cannot carry our errors out of a worker: as values."""
        return [self._sample_or_problem(key) for key in keys]

    def _sample_or_problem(self, key: EpochIndex) -> Sample | UnreadableImages:
        try:
            return self[key]
        except UnreadableImages as error:
            return error
