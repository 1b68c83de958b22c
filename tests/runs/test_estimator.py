"""The scikit-learn style classifier, by itself and inside scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
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


def test_labels_come_back_as_they_were_given(photos: tuple[list[Path], list[str]]) -> None:
    paths, names = photos
    numbers = np.array([{"bars": 7, "disc": -2, "ring": 11}[name] for name in names])
    found = classifier(train=TrainConfig(epochs=1)).fit(paths, numbers).predict(paths[:4])
    assert found.dtype == numbers.dtype
    assert set(found) <= {7, -2, 11}


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


def test_bad_calls_say_what_to_do(fitted: E2VPTClassifier, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not trained yet; call fit"):
        classifier().predict([tmp_path / "a.png"])
    with pytest.raises(DataError, match="2 images and 1 labels"):
        classifier().fit(["a.png", "b.png"], ["x"])
    with pytest.raises(DataError, match="1 images and no labels"):
        classifier().fit(["a.png"])
    with pytest.raises(UnreadableImages, match=r"gone\.png: the file is missing"):
        fitted.predict([tmp_path / "gone.png"])
    with pytest.raises(DataError, match="put it in a list"):
        fitted.predict(str(tmp_path / "gone.png"))
    with pytest.raises(ConfigError, match=r"no parameter \['epochs'\]"):
        classifier().set_params(epochs=3)
