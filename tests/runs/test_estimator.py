"""The scikit-learn style classifier, by itself and inside scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import estimator_checks as checks
from sklearn.utils import get_tags
from support.tasks_for_tests import CLASSES, write_images, write_task

from e2vpt import DataConfig, E2VPTClassifier, PromptConfig, TrainConfig, load_adapter
from e2vpt.errors import ConfigError, DataError, UnreadableImages


def classifier(**values: object) -> E2VPTClassifier:
    settings = {
        "prompts": PromptConfig(num_visual=2, num_kv=1),
        "data": DataConfig(val_fraction=0.2),
        "train": TrainConfig(epochs=10, batch_size=5, lr=0.01),
    }
    return E2VPTClassifier("demo", **(settings | values))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[str]]:
    folder = write_images(tmp_path_factory.mktemp("photos"), 8)
    paths = sorted(folder.rglob("*.png"))
    return paths, [path.parent.name for path in paths]


@pytest.fixture(scope="module")
def fitted(photos: tuple[list[Path], list[str]]) -> E2VPTClassifier:
    return classifier().fit(*photos)


def test_learns_predicts_and_scores(fitted: E2VPTClassifier, photos: tuple[list[Path], list[str]]) -> None:
    paths, labels = photos
    probabilities = fitted.predict_proba(paths)
    assert probabilities.shape == (24, 3)
    assert probabilities.sum(1) == pytest.approx(np.ones(24), abs=1e-6)
    assert list(fitted.classes_) == sorted(CLASSES)
    assert list(fitted.predict(paths)) == [fitted.classes_[row.argmax()] for row in probabilities]
    assert fitted.score(paths, labels) == np.mean(fitted.predict(paths) == np.array(labels)) > 0.8
    assert len(fitted.history_) == 10


def test_paths_arrays_and_pil_images_are_the_same_images(
    fitted: E2VPTClassifier, photos: tuple[list[Path], list[str]]
) -> None:
    paths = photos[0][:5]
    opened = [Image.open(path).convert("RGB") for path in paths]
    arrays = np.stack([np.asarray(image) for image in opened])
    expected = fitted.predict_proba(paths)
    assert np.array_equal(fitted.predict_proba(opened), expected)
    assert np.array_equal(fitted.predict_proba(arrays), expected)


def test_the_saved_adapter_predicts_the_same(
    fitted: E2VPTClassifier, photos: tuple[list[Path], list[str]], tmp_path: Path
) -> None:
    size = fitted.save(tmp_path / "a.safetensors")
    assert size == (tmp_path / "a.safetensors").stat().st_size
    model, info = load_adapter(tmp_path / "a.safetensors")
    assert info.classes == tuple(sorted(CLASSES))
    for a, b in zip(model.state_dict().values(), fitted.model_.state_dict().values(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ((7, -2, 11), None),
        ((7, -2, 11), np.uint8),
        ((0.0, 1.0, 2.0), np.float32),
        ((True, False, True), None),
        (("b", "äé", "c c"), None),
        (("b", "a", "c"), object),
    ],
)
def test_labels_come_back_as_they_were_given(
    photos: tuple[list[Path], list[str]], labels: tuple[Any, ...], dtype: Any, tmp_path: Path
) -> None:
    paths, names = photos
    given = dict(zip(sorted(CLASSES), np.array(labels).astype(dtype or np.array(labels).dtype), strict=True))
    y = np.array([given[name] for name in names], dtype=np.array(list(given.values())).dtype)
    if dtype is object:
        y = y.astype(object)
    made = classifier(method="linear").fit(paths, y)
    found = made.predict(paths)
    assert found.dtype == made.classes_.dtype == y.dtype
    assert np.array_equal(made.classes_, np.unique(y))
    assert np.mean(found == y) == made.score(paths, y) == made.score(paths, y[:, None]) > 0.6
    made.save(tmp_path / "a.safetensors")
    loaded = E2VPTClassifier.load(tmp_path / "a.safetensors")
    assert loaded.classes_.dtype.kind == made.classes_.dtype.kind.replace("O", "U").replace("u", "i")
    assert loaded.score(paths, y) == made.score(paths, y)
    assert made.predict([]).dtype == y.dtype and made.predict_proba([]).shape == (0, len(set(labels)))


def test_a_column_of_labels_is_a_list_of_them(photos: tuple[list[Path], list[str]]) -> None:
    paths, names = photos
    made = classifier(method="linear", train=TrainConfig(epochs=1)).fit(paths, np.array(names)[:, None])
    assert list(made.classes_) == sorted(CLASSES)


@pytest.mark.parametrize(
    "y",
    [
        np.array([0.0, 1.0, np.nan] * 8),
        np.array(["a", "b", None] * 8, dtype=object),
        np.array(["a", 1, 2] * 8, dtype=object),
        np.linspace(0.1, 0.9, 24),
        np.eye(24),
        np.array([b"a", b"b", b"c"] * 8),
    ],
    ids=["nan", "none", "mixed", "continuous", "matrix", "bytes"],
)
def test_what_is_no_list_of_class_labels(
    fitted: E2VPTClassifier, photos: tuple[list[Path], list[str]], y: Any
) -> None:
    with pytest.raises(DataError, match="y is no list of class labels"):
        classifier().fit(photos[0], y)
    with pytest.raises(DataError, match=r"score\(X, y\): y is no list of class labels"):
        fitted.score(photos[0], y)


def test_labels_that_cannot_be_scored(fitted: E2VPTClassifier, photos: tuple[list[Path], list[str]]) -> None:
    for y, problem in (
        (np.arange(24) % 3, "the first label is 0; expected labels such as 'bars'"),
        (photos[1][:3], "24 images and 3 labels"),
    ):
        with pytest.raises(DataError, match=problem):
            fitted.score(photos[0], y)
    with pytest.raises(DataError, match="nothing to score"):
        fitted.score([], [])
    first = fitted.predict(photos[0][:1])[0]
    assert fitted.score(photos[0][:2], [first, "unheard of"], sample_weight=[3, 1]) == 0.75


def test_a_loaded_classifier_is_the_saved_one(
    fitted: E2VPTClassifier, photos: tuple[list[Path], list[str]], tmp_path: Path
) -> None:
    fitted.save(tmp_path / "a.safetensors")
    loaded = E2VPTClassifier.load(tmp_path / "a.safetensors")
    assert np.array_equal(loaded.predict_proba(photos[0]), fitted.predict_proba(photos[0]))
    assert (loaded.backbone, loaded.method, loaded.prompts) == ("demo", "e2vpt", fitted.prompts)
    numbered = E2VPTClassifier.load(tmp_path / "a.safetensors", classes=[7, 8, 9])
    assert set(numbered.predict(photos[0])) <= {7, 8, 9}
    assert loaded.save(tmp_path / "b.safetensors") == (tmp_path / "a.safetensors").stat().st_size
    with pytest.raises(DataError, match="2 labels for the 3 classes"):
        E2VPTClassifier.load(tmp_path / "a.safetensors", classes=[7, 8])


@pytest.mark.parametrize(
    "check",
    [
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_do_not_raise_errors_in_init_or_set_params,
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_estimator_tags_renamed,
        checks.check_valid_tag_types,
        checks.check_mixin_order,
    ],
)
def test_scikit_learns_own_checks(check: Callable[[str, Any], None]) -> None:
    """Those that do not fit on tables of numbers."""
    check("E2VPTClassifier", E2VPTClassifier("demo"))


def test_its_tags(fitted: E2VPTClassifier) -> None:
    tags = get_tags(fitted)
    assert is_classifier(fitted) and tags.input_tags.three_d_array and not tags.input_tags.two_d_array
    assert not tags.target_tags.required


def test_a_data_set_path_brings_its_own_labels(tmp_path: Path) -> None:
    model = classifier(train=TrainConfig(epochs=1)).fit(write_task(tmp_path / "shapes"))
    assert list(model.classes_) == sorted(CLASSES)
    with pytest.raises(DataError, match="brings its own labels"):
        classifier().fit(tmp_path / "shapes", [1])


def test_works_inside_scikit_learn(photos: tuple[list[Path], list[str]]) -> None:
    original = classifier()
    copy = clone(original)
    assert copy.get_params() == original.get_params()
    assert copy.set_params(method="linear").method == "linear"
    paths = np.array([str(path) for path in photos[0]])
    scores = cross_val_score(classifier(), paths, np.array(photos[1]), cv=2)
    assert scores.min() > 0.5


def test_one_setting_of_a_group(photos: tuple[list[Path], list[str]]) -> None:
    made = classifier(method="linear", train=None).set_params(train__lr=0.5, train__epochs=2)
    assert made.train == TrainConfig(lr=0.5, epochs=2)
    assert made.get_params()["train__lr"] == 0.5 and "train__lr" not in made.get_params(deep=False)
    both = made.set_params(train__seed=3, train=TrainConfig(epochs=7))
    assert both.train == TrainConfig(epochs=7, seed=3)
    with pytest.raises(ConfigError, match="epochs is 0"):
        made.set_params(train__epochs=0)
    for name in ("train__speed", "method__lr", "speed__lr"):
        with pytest.raises(ConfigError, match=f"{name} is no parameter"):
            made.set_params(**{name: 1})
    paths = np.array([str(path) for path in photos[0]])
    grid = {"train__lr": [1e-9, 0.01], "prompts__num_visual": [0]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(paths, np.array(photos[1]))
    assert search.best_params_ == {"train__lr": 0.01, "prompts__num_visual": 0}
    assert search.best_estimator_.train.epochs == 10
    assert "E2VPTClassifier(backbone='demo'" in repr(search.best_estimator_)
    assert "train" in search.best_estimator_._repr_html_()


def test_bad_calls_say_what_to_do(fitted: E2VPTClassifier, tmp_path: Path) -> None:
    for call in (classifier().predict, classifier().predict_proba, classifier().save):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call([tmp_path / "a.png"])
    with pytest.raises(DataError, match="2 images and 1 labels"):
        classifier().fit(["a.png", "b.png"], ["x"])
    with pytest.raises(DataError, match="1 images and no labels"):
        classifier().fit(["a.png"])
    with pytest.raises(UnreadableImages, match=r"gone\.png: the file is missing"):
        fitted.predict([tmp_path / "gone.png"])
    with pytest.raises(DataError, match="put it in a list"):
        fitted.predict(str(tmp_path / "gone.png"))
    with pytest.raises(ValueError, match=r"Invalid parameter 'epochs'"):
        classifier().set_params(epochs=3)


def test_without_scikit_learn_the_command_is_named_and_the_rest_works() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['sklearn.base'] = None\n"
        "import e2vpt; e2vpt.PromptConfig()\n"
        "from e2vpt.errors import MissingExtra\n"
        "try: e2vpt.E2VPTClassifier\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'e2vpt[sklearn]'" in done.stdout and "sklearn" in done.stdout.partition("(")[2]
