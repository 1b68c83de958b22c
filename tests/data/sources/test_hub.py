"""Hugging Face data sets become tasks without decoding their images."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from e2vpt.config import DataConfig
from e2vpt.data.sources.hub import read_hub, row_images
from e2vpt.data.sources.load import load_task
from e2vpt.errors import DataError, MissingExtra, UnreadableImages
from e2vpt.runs.train import describe_task

datasets: Any = pytest.importorskip("datasets")


def _png(shade: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("L", (6, 4), shade).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def _rows(labels: list[Any], kind: Any = None, **columns: Any) -> Any:
    features = {"image": datasets.Image(), "label": kind or datasets.ClassLabel(names=["cat", "dog"])}
    values: dict[str, list[Any]] = {"image": [_png(i) for i in range(len(labels))], "label": labels}
    for name, feature in columns.items():
        features[name], values[name] = (
            feature,
            values["image" if isinstance(feature, datasets.Image) else "label"],
        )
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def _saved(folder: Path, **splits: Any) -> str:
    datasets.DatasetDict(splits).save_to_disk(str(folder / "pets"))
    return f"hf:{folder}/pets"


def test_saved_splits(tmp_path: Path) -> None:
    source = _saved(
        tmp_path, train=_rows([0, 1] * 6), validation=_rows([1]), test=_rows([0, 0]), extra=_rows([0])
    )
    task = load_task(source, DataConfig(), verify=False)
    assert (task.name, task.classes) == ("pets", ("cat", "dog"))
    assert {name: len(split) for name, split in task.splits().items()} == {"train": 12, "val": 1, "test": 2}
    assert task.train.labels == (0, 1) * 6
    image = task.train.images[5].open()
    assert (image.size, image.mode, image.getpixel((0, 0))) == ((6, 4), "RGB", (5, 5, 5))
    assert task.train.images[5].name == f"{source} train[5]"


def test_a_data_set_without_splits_is_split(tmp_path: Path) -> None:
    _rows([0, 1] * 10).save_to_disk(str(tmp_path / "flat"))
    task = load_task(f"hf:{tmp_path}/flat", DataConfig(), verify=False)
    assert {name: len(split) for name, split in task.splits().items()} == {"train": 14, "val": 2, "test": 4}


def test_a_local_image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (4, 4)).save(tmp_path / "pets" / name / f"{i}.png")
    task = load_task(f"hf:{tmp_path}/pets", DataConfig(val_fraction=0.3), verify=False)
    assert task.classes == ("cat", "dog")
    assert {name: len(split) for name, split in task.splits().items()} == {"train": 2, "val": 2, "test": 2}
    assert task.train.images[0].open().size == (4, 4)


def test_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second colon chooses from a data set that holds several, in a folder as it would lie on the Hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    card = ["---", "configs:"]
    for name, count in {"small": 6, "large": 12}.items():
        card += [f"- config_name: {name}", f"  data_files: {name}/*.parquet"]
        (tmp_path / "pets" / name).mkdir(parents=True)
        _rows([0, 1] * (count // 2)).to_parquet(str(tmp_path / "pets" / name / "train.parquet"))
    (tmp_path / "pets" / "README.md").write_text("\n".join([*card, "---", ""]))
    task = load_task(f"hf:{tmp_path}/pets:large", DataConfig(val_fraction=0.0), verify=False)
    assert (task.name, len(task.train), len(task.test or ())) == ("pets-large", 10, 2)
    assert task.train.images[0].name == f"hf:{tmp_path}/pets:large train[0]"
    with pytest.raises(DataError, match=r"hf:\S+/pets:huge cannot be loaded: .*'small'"):
        load_task(f"hf:{tmp_path}/pets:huge", DataConfig(), verify=False)


def test_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They part name and configuration, but not within the name of a folder that is there."""
    assert (
        load_task(_saved(tmp_path / "a:b", train=_rows([0, 1] * 6)), DataConfig(), verify=False).name
        == "pets"
    )
    with pytest.raises(DataError, match=r"save_to_disk, which knows no configurations\. Leave :small out"):
        load_task(f"hf:{tmp_path}/a:b/pets:small", DataConfig(), verify=False)
    asked = []

    def load(name: str, configuration: str | None) -> Any:
        asked.append((name, configuration))
        return _rows([0, 1] * 10)

    monkeypatch.setattr(datasets, "load_dataset", load)
    names = [
        load_task(f"hf:someone/pets{colon}", DataConfig(), verify=False).name for colon in ("", ":", ":small")
    ]
    assert asked == [("someone/pets", None), ("someone/pets", None), ("someone/pets", "small")]
    assert names == ["pets", "pets", "pets-small"]


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [([10, 9] * 5, "int64", ("9", "10")), (["b", "a"] * 5, "string", ("a", "b"))],
)
def test_plain_label_columns(tmp_path: Path, labels: list[Any], kind: str, classes: tuple[str, ...]) -> None:
    task = load_task(_saved(tmp_path, train=_rows(labels, datasets.Value(kind))), DataConfig(), verify=False)
    assert task.classes == classes
    assert set(task.train.labels) == {0, 1}


def test_preferred_names_decide_between_columns(tmp_path: Path) -> None:
    rows = _rows([0, 1] * 5, coarse=datasets.ClassLabel(names=["x", "y"]), depth=datasets.Image())
    assert load_task(_saved(tmp_path, train=rows), DataConfig(), verify=False).classes == ("cat", "dog")


def test_broken_images_are_named(tmp_path: Path) -> None:
    rows = _rows([0, 1] * 5).cast_column("image", datasets.Image(decode=False))
    broken = rows.map(
        lambda row, i: {"image": [{"bytes": b"no", "path": None}, None][i]} if i < 2 else row,
        with_indices=True,
    )
    task = load_task(
        _saved(tmp_path, train=broken.cast_column("image", datasets.Image())),
        DataConfig(val_fraction=0.0),
        verify=False,
    )
    for i, reason in enumerate(["not an image", "the cell is empty"]):
        with pytest.raises(UnreadableImages, match=reason):
            task.train.images[i].open()


@pytest.mark.parametrize("kind", [None, datasets.Value("string")])
def test_splits_without_labels_are_left_out_with_a_word(tmp_path: Path, kind: Any) -> None:
    labels = [0, 1] if kind is None else ["0", "1"]
    blank = _rows([-1, -1] if kind is None else [None, None], kind)
    for i, test in enumerate((blank, blank.remove_columns("label"))):
        task = load_task(
            _saved(tmp_path / str(i), test=test, train=_rows(labels * 5, kind)), DataConfig(), verify=False
        )
        assert task.test is None and len(task.train) < 10 and task.val is not None
        assert "; test is left out, its images have no labels\n" in describe_task(task)


def test_a_row_does_not_choose_among_all_files_of_the_machine(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "private.png")
    inside = tmp_path / "pets" / "0.png"
    paths = [str(tmp_path / "private.png"), "/dev/zero", f"{tmp_path}/pets/../private.png", str(inside)]
    rows = _rows([0, 1] * 5).cast_column("image", datasets.Image(decode=False))
    named = rows.map(
        lambda row, i: {"image": {"bytes": None, "path": paths[i]}} if i < len(paths) else row,
        with_indices=True,
    )
    inside.parent.mkdir()
    Image.new("RGB", (4, 4)).save(inside)
    images = row_images(f"hf:{tmp_path}/pets train", named, "image")
    for image in images[:3]:
        with pytest.raises(UnreadableImages, match="outside of the data set"):
            image.open()
    assert images[3].open().size == (4, 4)


def test_refusals(tmp_path: Path) -> None:
    good = _rows([0, 1] * 5)
    two = _rows([0, 1] * 5, a=datasets.ClassLabel(names=["x", "y"]), b=datasets.ClassLabel(names=["x", "y"]))
    cases = {
        r"no image column .*its columns are label": {"train": good.remove_columns("image")},
        r"no label column .*its columns are image": {"train": good.remove_columns("label")},
        "several columns could be the label column": {"train": two.remove_columns("label")},
        "no split called train, val or test; found foo": {"foo": good},
        "no training images; found only test": {"test": good},
        "two splits that mean val": {"train": good, "val": good, "valid": good},
        r"test: 1 row\(s\) have no label, the first are 1": {"train": good, "test": _rows([0, -1])},
        r"train: 1 row\(s\) have no label, the first are 0": {"train": _rows([-1, 1])},
        "no columns 'image' and 'label' in test": {"train": good, "test": good.remove_columns("image")},
    }
    for i, (message, splits) in enumerate(cases.items()):
        with pytest.raises(DataError, match=message):
            load_task(_saved(tmp_path / str(i), **splits), DataConfig(), verify=False)


def test_the_one_split_train_is_no_split(tmp_path: Path) -> None:
    data = read_hub(_saved(tmp_path / "one", train=_rows([0, 1] * 10)))
    assert set(data.found) == {"all"}
    assert {name: len(split) for name, split in data.to_train(DataConfig()).splits().items()} == {
        "train": 14,
        "val": 2,
        "test": 4,
    }
    assert set(read_hub(_saved(tmp_path / "two", train=_rows([0, 1]), test=_rows([1]))).found) == {
        "train",
        "test",
    }


def test_without_a_connection_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(DataError, match="it is not in the cache, and HF_HUB_OFFLINE is set"):
        load_task("hf:nobody/nothing", DataConfig(), verify=False)
    assert capfd.readouterr() == ("", "") and before == datasets.config.HF_HUB_OFFLINE


def test_what_cannot_be_loaded_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"hf:.*empty cannot be loaded"):
        load_task(f"hf:{tmp_path}/empty", DataConfig(), verify=False)


def test_without_the_package_the_message_holds_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vpt\[hf\]'"):
        load_task("hf:pets", DataConfig(), verify=False)
