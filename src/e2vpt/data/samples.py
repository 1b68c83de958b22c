"""One sample: an image of a split, transformed, its augmentation drawn from its own numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import Dataset

from e2vpt.data.randomness import derived_seed, seeded
from e2vpt.data.task import Split
from e2vpt.data.transforms import Transform
from e2vpt.errors import UnreadableImages

Key = tuple[int, int]  # (epoch, index): the epoch travels with the index, so it reaches workers that live on.
Sample = tuple[Tensor, int]


class TaskDataset(Dataset[Sample]):
    """The transformed images of a split. What a sample looks like depends on (seed, epoch, index) only."""

    def __init__(self, split: Split, transform: Transform, seed: int = 0) -> None:
        self.split = split
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key) -> Sample:
        """Image [3, H, W] and label of (epoch, index).

        Raises:
            UnreadableImages: the image does not decode.
        """
        epoch, index = key
        with seeded(derived_seed("sample", self.seed, epoch, index)):
            return self.transform(self.split.images[index].open()), self.split.labels[index]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample | UnreadableImages]:
        """Several samples for the DataLoader, which cannot carry our errors out of a worker: as values."""
        return [self._sample_or_problem(key) for key in keys]

    def _sample_or_problem(self, key: Key) -> Sample | UnreadableImages:
        try:
            return self[key]
        except UnreadableImages as error:
            return error
