"""A backbone adapted to a task, loaded and ready: predict, evaluate, embed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from e2vpt.adapters.choosing import choose_backbone
from e2vpt.adapters.files import load_stored
from e2vpt.adapters.header import AdapterInfo
from e2vpt.adapters.reading import read_stored
from e2vpt.backbones.placing import placed
from e2vpt.data import ImageFile, ImageInMemory, ImageSource, Split, make_loader
from e2vpt.data.load import read_labelled
from e2vpt.data.preprocess import check_rgb
from e2vpt.errors import AdapterError, check_type
from e2vpt.prompting.folding import folded
from e2vpt.runs.embed import embed_images
from e2vpt.runs.folder import CONFIG, adapter_path, read_config, run_of
from e2vpt.runs.identity import SPLITS, saved_images
from e2vpt.runs.labelled import Labels, WhichSplit, labelled_images
from e2vpt.runs.predict import Prediction, find_images, predict_images
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


def load(
    adapter_or_run: str | PathLike[str],
    backbone: nn.Module | str | None = None,
    *,
    weights: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
) -> TaskModel:
    """Load an adapter file, or that of a run folder or of "hf-hub:owner/name", with its backbone.

    `backbone` is a timm model or name, where it is not the one that the file names; `weights` a local file of
    its weights. A run that was trained with such a file finds it again. `device`: a GPU where there is one.

    Raises:
        RunError: no finished run at this path.
        HubError: the Hub cannot be reached, or has no such adapter.
        AdapterFormatError: the file is damaged or no adapter.
        BackboneMismatch: the adapter was made for other weights.
        WeightsError: the weights cannot be had.
        ConfigError: the backbone does not take RGB images.
    """
    check_type("adapter_or_run", adapter_or_run, str, PathLike)
    check_type("backbone", backbone, nn.Module, str, NoneType)
    check_type("weights", weights, str, PathLike, NoneType)
    check_type("device", device, str, torch.device, NoneType)
    path = adapter_path(Path(adapter_or_run))
    stored = read_stored(path)
    if weights is None and backbone is None:
        weights = _weights_of_run(path, stored.info)
    model, info = load_stored(path, stored, backbone, weights=None if weights is None else Path(weights))
    check_rgb(model)
    return TaskModel(model=placed(model, device).eval(), info=info, path=path)


def plain_backbone(
    adapter: Path, backbone: str | None = None, *, weights: str | PathLike[str] | None = None
) -> nn.Module:
    """The backbone of an adapter as it is without it, under a head of one class; arguments as of `load`.

    Raises:
        As `load`.
    """
    stored = read_stored(adapter)
    if weights is None and backbone is None:
        weights = _weights_of_run(adapter, stored.info)
    chosen = choose_backbone(adapter, stored, backbone, None if weights is None else Path(weights))
    chosen.planned(1)
    return chosen.loaded(1)


def _weights_of_run(adapter: Path, info: AdapterInfo) -> str | None:
    """The file of weights that the run of an adapter was trained with, where it still is.

    None for a bundle, which has its own.
    """
    run = None if info.bundled else run_of(adapter, info.classes, info.fingerprint)
    saved = None if run is None else read_config(run / CONFIG).get("weights")
    return saved if isinstance(saved, str) and Path(saved).is_file() else None


def as_sources(images: Any) -> list[ImageSource]:
    """Images as a user gives them: a path, a picture, or several of either."""
    if isinstance(images, (str, PathLike)) or not isinstance(images, Iterable) or _is_picture(images):
        images = [images]
    sources: list[ImageSource] = []
    for index, image in enumerate(images):
        if isinstance(image, (str, PathLike)):
            sources += find_images([Path(image)])
        elif isinstance(image, (ImageFile, ImageInMemory)):
            sources.append(image)
        else:
            sources.append(ImageInMemory(name=f"image {index}", pixels=image))
    return sources


def _is_picture(images: Any) -> bool:
    """A single array or tensor, not a batch of four dimensions or a list."""
    return hasattr(images, "shape") and len(images.shape) < 4
