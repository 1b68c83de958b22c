"""A scikit-learn classifier, for notebooks and pipelines."""

from __future__ import annotations

import ast
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
from e2vpt.errors import ConfigError, DataError, needs
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.models.load import load
from e2vpt.runs.models.predict import stack_probabilities
from e2vpt.runs.run import train_run

with needs("sklearn", "E2VPTClassifier needs scikit-learn"):
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import assert_all_finite
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d

_GROUPS = {"prompts": RECIPE_PROMPTS, "data": DataConfig(), "train": TrainConfig()}
"""Parameters that are groups of settings: what None stands for; `train__lr` is one setting of a group."""


class E2VPTClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Mixed prompts and a linear head on a frozen backbone, with scikit-learn's methods.

        classifier = E2VPTClassifier("vit_base_patch16_224.augreg_in21k", train=TrainConfig(epochs=20))
        classifier.fit(paths, labels).predict(new_paths)

    An image is a path, a PIL image, or an array [h, w] or [h, w, 3]. Fitted attributes: `classes_`, `model_`,
    `preprocessing_`, `history_`. Methods raise scikit-learn's NotFittedError before `fit`.

    It trains once with all prompts: nothing is pruned, and images are augmented only where
    `data=DataConfig(augment=...)` asks for it.
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
            **{name: self._group(name) for name in _GROUPS},
        )
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            reporting = None
            if self.verbose:  # Only those who ask for a display need the terminal library.
                from e2vpt.runs.progress import reported

                reporting = stack.enter_context(reported())
            trained = train_run(task, config, Path(folder) / "run", reporting=reporting)
        self.model_, self.preprocessing_ = trained.model, trained.preprocessing
        self.history_ = trained.result.history
        return self

    def predict_proba(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Probabilities [n, C] of the classes, in the order of `classes_`."""
        check_is_fitted(self)
        images = _images(X)
        if not images:
            return np.empty((0, len(self.classes_)))
        return stack_probabilities(self.model_, images, self.preprocessing_)

    def predict(self, X: Sequence[Any]) -> NDArray[Any]:
        """The most probable class of each image, as given to `fit`: [n]."""
        best = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def score(
        self, X: Sequence[Any], y: Sequence[Any], sample_weight: Sequence[float] | None = None
    ) -> float:
        """Share of the images `X` whose label `y` is predicted, 0 to 1.

        Raises:
            DataError: images and labels do not fit together, or the labels are of another kind than in `fit`.
        """
        check_is_fitted(self)
        labels = _labels("score(X, y)", X, y)
        if not len(labels):
            raise DataError("score(X, y): no images; there is nothing to score.")
        found, known = labels.tolist()[0], self.classes_.tolist()[0]
        if isinstance(found, str) != isinstance(known, str):
            raise DataError(f"score(X, y): the first label is {found!r}; expected labels such as {known!r}.")
        return float(super().score(X, labels, sample_weight))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name; with `deep`, also each setting of a group, as `train__lr`."""
        params: dict[str, Any] = super().get_params(deep=False)
        settings = ((name, self._group(name)) for name in _GROUPS)
        fields = {
            f"{name}__{f.name}": getattr(group, f.name) for name, group in settings for f in _fields(group)
        }
        return params | fields if deep else params

    def set_params(self, **params: Any) -> E2VPTClassifier:
        """Set parameters; `train__lr=0.01` sets one of a group and leaves the others.

        Raises:
            ConfigError: a value that the setting cannot have.
            ValueError: no such parameter.
        """
        super().set_params(**{name: value for name, value in params.items() if "__" not in name})
        for name, group, field in ((name, *name.split("__", 1)) for name in params if "__" in name):
            if name not in self.get_params():
                raise ConfigError(f"{name} is no parameter of E2VPTClassifier; see get_params().")
            setattr(self, group, dataclasses.replace(self._group(group), **{field: params[name]}))
        return self

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        backbone: Any = None,
        *,
        weights: str | None = None,
        classes: Sequence[Any] | None = None,
    ) -> E2VPTClassifier:
        """A fitted classifier from an adapter file or a run folder; `backbone`, `weights` as in `e2vpt.load`.

        A file holds the names of classes. `classes` are the labels they stand for, in the order of the file;
        by default numbers, or True and False, where every name is one, otherwise the names.

        Raises:
            DataError: `classes` are not one for each class of the file.
            And what `e2vpt.load` raises.
        """
        loaded = load(path, backbone, weights=weights)
        info = loaded.info
        labels = np.asarray(_as_labels(info.classes) if classes is None else classes)
        if labels.shape != (len(info.classes),):
            raise DataError(
                f"load(classes=...): {len(labels)} labels for the {len(info.classes)} classes of {path}."
            )
        made = cls(info.backbone, weights=weights, method=info.method, prompts=info.prompts)
        made.model_, made.preprocessing_ = loaded.model, info.preprocessing
        made.classes_, made.history_ = labels, []
        return made

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
        data = self._group("data")
        if isinstance(X, (str, PathLike)):
            if y is not None:
                raise DataError(
                    "fit(X, y): X is the path of a data set, which brings its own labels; leave y out."
                )
            task = load_task(X, data)
            self.classes_: NDArray[Any] = np.asarray(task.classes)
            return task
        self.classes_, numbers = np.unique(_labels("fit(X, y)", X, y), return_inverse=True)
        images = _images(X)
        verify_images(images)
        names = [str(name) for name in self.classes_]
        labelled = [(image, names[number]) for image, number in zip(images, numbers, strict=True)]
        return build_task("fit(X, y)", names, {"all": labelled}, dataclasses.replace(data, test_fraction=0.0))

    def _group(self, name: str) -> Any:
        """The settings of a group as they count."""
        given = getattr(self, name)
        return _GROUPS[name] if given is None else given


def _fields(group: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(group) if dataclasses.is_dataclass(group) else ()


def _labels(call: str, X: Sequence[Any], y: Sequence[Any] | None) -> NDArray[Any]:
    """The labels of as many images [n]: numbers or texts, none missing."""
    if y is None or len(X) != len(y):
        raise DataError(
            f"{call}: {len(X)} images and {'no' if y is None else len(y)} labels; one each is needed."
        )
    try:
        labels: NDArray[Any] = column_or_1d(np.asarray(y))
        assert_all_finite(labels, input_name="y")
        if len(labels):
            check_classification_targets(labels)
        np.sort(labels)  # Numbers among texts do not sort.
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{call}: y is no list of class labels ({error}). Give a whole number or a text for each "
            "image; none may be missing."
        ) from error
    return labels


def _as_labels(names: Sequence[str]) -> list[Any]:
    """The labels whose names these are: all numbers or truth values, or else the names themselves."""
    try:
        values = [ast.literal_eval(name) for name in names]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return list(names)
    same = len({type(value) for value in values}) == 1 and isinstance(values[0], (int, float))
    return values if same and [str(value) for value in values] == list(names) else list(names)


def _images(X: Sequence[Any]) -> list[ImageSource]:
    if isinstance(X, (str, PathLike)):
        raise DataError(f"Expected a list of images, found the single path {X}; put it in a list.")
    return [
        ImageFile(name=str(image), path=Path(image))
        if isinstance(image, (str, PathLike))
        else ImageInMemory(name=f"image {index}", pixels=image)
        for index, image in enumerate(X)
    ]
