"""A scikit-learn classifier, for notebooks and pipelines."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vpt.adapters.files import save_adapter
from e2vpt.config import RECIPE_PROMPTS, DataConfig, PromptConfig, TrainConfig
from e2vpt.data import ImageFile, ImageInMemory, ImageSource, Task, build_task, load_task, verify_images
from e2vpt.errors import DataError, MissingExtra
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.predict import stack_probabilities
from e2vpt.runs.run import train_run

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import assert_all_finite
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError:
    raise MissingExtra("E2VPTClassifier needs scikit-learn: pip install 'e2vpt[sklearn]'") from None


class E2VPTClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Mixed prompts and a linear head on a frozen backbone, with scikit-learn's methods.

        classifier = E2VPTClassifier("vit_base_patch16_224.augreg_in21k", train=TrainConfig(epochs=20))
        classifier.fit(paths, labels).predict(new_paths)

    An image is a path, a PIL image, or an array [h, w] or [h, w, 3]. Fitted attributes: `classes_`, `model_`,
    `preprocessing_`, `history_`. Methods raise scikit-learn's NotFittedError before `fit`.
    """

    def __init__(
        self,
        backbone: str = "vit_base_patch16_224.augreg_in21k",
        *,
        weights: str | None = None,
        method: str = "e2vpt",
        prompts: PromptConfig | None = None,
        data: DataConfig | None = None,
        train: TrainConfig | None = None,
        verbose: bool = False,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.method = method
        self.prompts = prompts
        self.data = data
        self.train = train
        self.verbose = verbose

    def fit(self, X: str | PathLike[str] | Sequence[Any], y: Sequence[Any] | None = None) -> E2VPTClassifier:
        """Train on images `X` with labels `y`, or on a data set at path `X` (see `e2vpt.load_task`).

        Part of the images (`data.val_fraction`) is held out to choose the best epoch.

        Raises:
            DataError: images and labels do not fit together.
            UnreadableImages: naming every image that does not decode.
        """
        task = self._task(X, y)
        config = RunConfig(
            backbone=self.backbone,
            weights=self.weights,
            method=self.method,
            prompts=self.prompts or RECIPE_PROMPTS,
            data=self.data or DataConfig(),
            train=self.train or TrainConfig(),
        )
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            on_step = on_epoch = None
            if self.verbose:  # Only those who ask for a display need the terminal library.
                from e2vpt.runs.progress import training

                on_step, on_epoch = stack.enter_context(training())
            trained = train_run(task, config, Path(folder) / "run", on_step=on_step, on_epoch=on_epoch)
        self.model_, self.preprocessing_ = trained.model, trained.preprocessing
        self.history_ = trained.result.history
        return self

    def predict_proba(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Probabilities [n, C] of the classes, in the order of `classes_`."""
        check_is_fitted(self)
        images = _images(X)
        verify_images(images)
        if not images:
            return np.empty((0, len(self.classes_)))
        return stack_probabilities(self.model_, images, self.preprocessing_)

    def predict(self, X: Sequence[Any]) -> NDArray[Any]:
        """The most probable class of each image, as given to `fit`: [n]."""
        best = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def save(self, path: str | Path) -> int:
        """Write the adapter file; returns its bytes."""
        check_is_fitted(self)
        names = [str(name) for name in self.classes_]
        return save_adapter(
            self.model_, path, classes=names, preprocessing=self.preprocessing_, method=self.method
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.target_tags.required = False  # A data set brings its own labels.
        return tags

    def _task(self, X: str | PathLike[str] | Sequence[Any], y: Sequence[Any] | None) -> Task:
        data = self.data or DataConfig()
        if isinstance(X, (str, PathLike)):
            if y is not None:
                raise DataError(
                    "fit(X, y): X is the path of a data set, which brings its own labels; leave y out."
                )
            task = load_task(X, data)
            self.classes_: NDArray[Any] = np.asarray(task.classes)
            return task
        if y is None or len(X) != len(y):
            raise DataError(
                f"fit(X, y): {len(X)} images and {'no' if y is None else len(y)} labels; one each is needed."
            )
        self.classes_, numbers = _numbered(y)
        images = _images(X)
        verify_images(images)
        names = [str(name) for name in self.classes_]
        labelled = [(image, names[number]) for image, number in zip(images, numbers, strict=True)]
        return build_task("fit(X, y)", names, {"all": labelled}, dataclasses.replace(data, test_fraction=0.0))


def _numbered(y: Sequence[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The distinct labels, sorted, and which of them each image has: [C] and [n]."""
    try:
        labels = column_or_1d(np.asarray(y))
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"fit(X, y): y is no list of class labels ({error}). Give a whole number or a text for each "
            "image; none may be missing."
        ) from error
    return classes, numbers


def _images(X: Sequence[Any]) -> list[ImageSource]:
    if isinstance(X, (str, PathLike)):
        raise DataError(f"Expected a list of images, found the single path {X}; put it in a list.")
    return [
        ImageFile(name=str(image), path=Path(image))
        if isinstance(image, (str, PathLike))
        else ImageInMemory(name=f"image {index}", pixels=image)
        for index, image in enumerate(X)
    ]
