"""A backbone adapted to a task, loaded and ready: predict, evaluate, embed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from e2vpt.adapters.info import AdapterInfo
from e2vpt.config.images import WhichSplit
from e2vpt.data import ImageSource, Split, make_loader
from e2vpt.data.sources.load import read_labelled
from e2vpt.errors import AdapterError
from e2vpt.prompting.folding import folded
from e2vpt.runs.folders.finding import run_of
from e2vpt.runs.folders.identity import SPLITS, saved_images
from e2vpt.runs.models.embed import embed_images
from e2vpt.runs.models.labelled import Labels, labelled_images
from e2vpt.runs.models.predict import Prediction, as_sources, predict_images
from e2vpt.training.evaluate import Metrics, evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Metrics):
    """What a model got right, and on which images.

    Attributes:
        split: the split they are; "all" where the data have none and were used whole.
        num_trained_on: images among them that the run trained on, or chose its best epoch by.
        left_out: images that did not decode and were left out, by name with the reason.
    """

    split: WhichSplit
    num_trained_on: int
    left_out: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TaskModel:
    """A frozen backbone with the adapter of one task, in eval mode.

    Attributes:
        model: images [B, 3, h, w] to logits [B, C].
        info: what the adapter file says: classes, preprocessing, method, sizes.
        path: the adapter file.
    """

    model: nn.Module
    info: AdapterInfo
    path: Path

    def predict(self, images: Any, *, topk: int = 1, batch_size: int = 32) -> list[Prediction]:
        """The `topk` most probable classes of each image, in order.

        `images` is a path, a PIL image or an array [H, W, 3], or a list of them; a folder stands for every
        image below it. An image that cannot be read has an `error` in place of classes.

        Raises:
            DataError: a folder without images.
            AdapterError: scores that are not finite numbers.
        """
        return list(self.predictions(as_sources(images), topk=topk, batch_size=batch_size))

    def predictions(
        self, images: list[ImageSource], *, topk: int = 1, batch_size: int = 32
    ) -> Iterator[Prediction]:
        """`predict`, one after the other as they are done."""
        for prediction in predict_images(
            self.model,
            images,
            classes=self.info.classes,
            preprocessing=self.info.preprocessing,
            topk=topk,
            batch_size=batch_size,
        ):
            self.check_finite(prediction.scores)
            yield prediction

    def embed(
        self,
        images: Any,
        *,
        batch_size: int = 32,
        on_images: Callable[[int, int], None] = lambda done, total: None,
        left_out: dict[str, str] | None = None,
    ) -> NDArray[np.float32]:
        """What the head sees of each image: features [n, D]; `images` as in `predict`.

        `on_images` is told (done, total). With `left_out`, images that do not decode get no row, and this
        dictionary what is wrong with each.

        Raises:
            UnreadableImages: images that do not decode, and are not to be left out.
            AdapterError: features that are not finite numbers.
        """
        rows = embed_images(
            self.model,
            as_sources(images),
            self.info.preprocessing,
            batch_size=batch_size,
            on_images=on_images,
            left_out=left_out,
        )
        self.check_finite(rows)
        return rows

    def check_finite(self, values: ArrayLike) -> None:
        """Raise AdapterError where what the model computed is not finite numbers."""
        if not np.isfinite(values).all():
            raise AdapterError(
                f"{self.path}: the model computes values that are not finite numbers; those in the file are "
                "too large. Train it again with a lower learning rate, or get another copy."
            )

    def evaluate(
        self,
        source: str | PathLike[str],
        *,
        split: WhichSplit = "test",
        batch_size: int = 64,
        skip_unreadable: bool = False,
        on_images: Callable[[int, int], None] | None = None,
        on_note: Callable[[str], None] = warnings.warn,
    ) -> Evaluation:
        """Accuracy and loss on labelled images of the adapter's classes, as many and of as many as there are.

        Without splits in the data all images are used; where they are those of the run, it is the run's own
        `split`. With `skip_unreadable`, images that do not decode are left out. `on_images` is told
        (done, total), `on_note` in words how the data were read and whether the run trained on some of them.

        Raises:
            DataError: no such split, or classes that the adapter does not know.
            UnreadableImages: images that do not decode, and are not to be left out.
            AdapterError: logits that are not finite numbers.
        """
        found = self.labelled(
            source, split=split, skip_unreadable=skip_unreadable, on_images=on_images, on_note=on_note
        )
        metrics = self.measure(found.images, batch_size=batch_size, on_images=on_images)
        return evaluation(metrics, found)

    def measure(
        self,
        images: Split,
        *,
        batch_size: int = 64,
        on_images: Callable[[int, int], None] | None = None,
        on_logits: Callable[[Tensor], None] | None = None,
    ) -> Metrics:
        """Accuracy and loss on these images; `on_logits` is given what was said of each, [b, C] in float64.

        Raises:
            UnreadableImages: an image does not decode.
            AdapterError: logits that are not finite numbers.
        """
        done = 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            if on_images is not None:
                on_images(done, len(images))

        loader = make_loader(images, self.info.preprocessing, batch_size=batch_size)
        with folded(self.model):
            metrics = evaluate(self.model, loader, on_batch=count, on_logits=on_logits)
        self.check_finite(metrics.loss)
        return metrics

    def labelled(
        self,
        source: str | PathLike[str],
        *,
        split: WhichSplit = "test",
        skip_unreadable: bool = False,
        on_images: Callable[[int, int], None] | None = None,
        on_note: Callable[[str], None] = warnings.warn,
    ) -> Labels:
        """The images that `evaluate` evaluates on, each decoded once; arguments and errors as there."""
        run = run_of(self.path, self.info.classes, self.info.fingerprint)
        rows = saved_images(run) if run is not None and (run / SPLITS).exists() else None
        found = labelled_images(
            read_labelled(source, known=self.info.classes),
            split,
            self.info,
            rows,
            on_images,
            skip_unreadable=skip_unreadable,
        )
        for note in found.notes:
            on_note(note)
        return found


def evaluation(metrics: Metrics, labels: Labels) -> Evaluation:
    """Metrics with the images that they are of."""
    return Evaluation(
        **dataclasses.asdict(metrics),
        split=labels.which,
        num_trained_on=labels.num_trained_on,
        left_out=labels.left_out,
    )
