"""A scikit-learn style classifier, for notebooks and pipelines. scikit-learn itself is not needed."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vpt.adapters.files import save_adapter
from e2vpt.config import RECIPE_PROMPTS, DataConfig, PromptConfig, TrainConfig
from e2vpt.data import ImageFile, ImageInMemory, ImageSource, Task, build_task, load_task, verify_images
from e2vpt.errors import ConfigError, DataError
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.predict import stack_probabilities
from e2vpt.runs.run import Trained, train_run
from e2vpt.training.checkpoint import Row
from e2vpt.training.step_report import StepReport


class E2VPTClassifier:
    """Mixed prompts and a linear head on a frozen backbone, with scikit-learn's methods.

        classifier = E2VPTClassifier("vit_base_patch16_224.augreg_in21k", train=TrainConfig(epochs=20))
        classifier.fit(paths, labels).predict(new_paths)

    An image is a path, a PIL image, or an array [h, w] or [h, w, 3]. Fitted attributes: `classes_`,
    `model_`, `preprocessing_`, `history_`.
    """

    _estimator_type = "classifier"

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
            on_step, on_epoch = stack.enter_context(_display()) if self.verbose else (None, None)
            trained = train_run(task, config, Path(folder) / "run", on_step=on_step, on_epoch=on_epoch)
        self.trained_: Trained = trained
        self.model_, self.preprocessing_ = trained.model, trained.preprocessing
        self.history_ = trained.result.history
        return self

    def predict_proba(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Probabilities [n, C] of the classes, in the order of `classes_`."""
        trained, images = self._fitted(), _images(X)
        verify_images(images)
        return stack_probabilities(trained.model, images, trained.preprocessing)

    def predict(self, X: Sequence[Any]) -> NDArray[Any]:
        """The most probable class of each image, as given to `fit`: [n]."""
        best = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def score(self, X: Sequence[Any], y: Sequence[Any]) -> float:
        """Share of images whose predicted class is `y`'s, 0 to 1."""
        return float(np.mean(self.predict(X) == np.asarray(y)))

    def save(self, path: str | Path) -> int:
        """Write the adapter file; returns its bytes."""
        trained = self._fitted()
        names = [str(name) for name in self.classes_]
        return save_adapter(
            trained.model, path, classes=names, preprocessing=trained.preprocessing, method=self.method
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as scikit-learn's `clone` and searches want them."""
        return {name: getattr(self, name) for name in _parameters()}

    def set_params(self, **values: Any) -> E2VPTClassifier:
        """Change constructor arguments."""
        unknown = sorted(set(values) - set(_parameters()))
        if unknown:
            raise ConfigError(f"E2VPTClassifier has no parameter {unknown}; it has {_parameters()}.")
        for name, value in values.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=False, three_d_array=True),
        )

    def _fitted(self) -> Trained:
        if not hasattr(self, "trained_"):
            raise ConfigError("This classifier is not trained yet; call fit(X, y) first.")
        return self.trained_

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
        self.classes_ = np.unique(np.asarray(y))
        images = _images(X)
        verify_images(images)
        names = [str(name) for name in self.classes_]
        labelled = [(image, str(label)) for image, label in zip(images, np.asarray(y), strict=True)]
        return build_task("fit(X, y)", names, {"all": labelled}, dataclasses.replace(data, test_fraction=0.0))


def _display() -> AbstractContextManager[tuple[Callable[[StepReport], None], Callable[[Row], None]]]:
    # Only those who ask for a display need the terminal library.
    from e2vpt.runs.progress import training

    return training()


def _parameters() -> list[str]:
    return list(inspect.signature(E2VPTClassifier).parameters)


def _images(X: Sequence[Any]) -> list[ImageSource]:
    if isinstance(X, (str, PathLike)):
        raise DataError(f"Expected a list of images, found the single path {X}; put it in a list.")
    return [
        ImageFile(name=str(image), path=Path(image))
        if isinstance(image, (str, PathLike))
        else ImageInMemory(name=f"image {index}", pixels=image)
        for index, image in enumerate(X)
    ]
