"""VTAB-1k tasks come out of Hugging Face data sets as they went in, and only out of the right ones."""

from __future__ import annotations

import functools
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from e2vpt.benchmarks.vtab.data import VtabData
from e2vpt.benchmarks.vtab.hub import read_vtab_hub
from e2vpt.benchmarks.vtab.read import read_vtab
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.data.hub import RowImage
from e2vpt.errors import DataError, MissingExtra, UnreadableImages

datasets: Any = pytest.importorskip("datasets")

_KITTI = ("to 8 m", "to 20 m", "over 20 m", "no vehicle")


@functools.cache
def _png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (number % 256, number // 256, 0)).save(file, "PNG")
    return file.getvalue()


def _rows(numbers: range, names: tuple[str, ...] = _KITTI, **changed: Any) -> Any:
    """One row for each number, which its image shows; `label` is the number modulo the number of classes."""
    label = changed.get("kind") or datasets.ClassLabel(names=list(names))
    values = {
        "image": [{"bytes": _png(i), "path": None} for i in numbers],
        "label": changed.get("labels") or [i % len(names) for i in numbers],
    }
    features = datasets.Features({"image": datasets.Image(), "label": label})
    return datasets.Dataset.from_dict(values, features=features)


def _save(folder: Path, **splits: Any) -> None:
    datasets.DatasetDict(splits).save_to_disk(str(folder))


def _bytes(split: Any) -> list[bytes]:
    assert all(isinstance(image, RowImage) for image in split.images)
    return [image.rows[image.index][image.column]["bytes"] for image in split.images]


def _check(found: VtabData, classes: int = 4) -> None:
    """800, 200 and 3 images, in the order of the numbers from 0."""
    for split, numbers in (
        (found.train, range(800)),
        (found.val, range(800, 1000)),
        (found.test, range(1000, 1003)),
    ):
        assert split.labels == tuple(i % classes for i in numbers)
        assert _bytes(split) == [_png(i) for i in numbers]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train800", "val200", "test"), "train800[0:800], val200[0:200], test[0:3]"),
        (("train", "validation", "test"), "train[0:800], validation[0:200], test[0:3]"),
        (("train", "val", "test"), "train[0:800], val[0:200], test[0:3]"),
        (("train800val200", "test"), "train800val200[0:800], train800val200[800:1000], test[0:3]"),
        (("train", "test"), "train[0:800], train[800:1000], test[0:3]"),
    ],
)
def test_split_layouts(tmp_path: Path, names: tuple[str, ...], parts: str) -> None:
    cuts = (0, 800, 1000, 1003) if len(names) == 3 else (0, 1000, 1003)
    ranges = map(range, cuts[:-1], cuts[1:])
    _save(tmp_path / "kitti_distance", **dict(zip(names, map(_rows, ranges), strict=True)))
    found = read_vtab_hub(f"hf:{tmp_path}/{{task}}", VTAB["kitti_distance"])
    _check(found)
    assert found.classes == _KITTI
    assert found.where == f"hf:{tmp_path}/kitti_distance: {parts}"
    images = [image for split in (found.train, found.val, found.test) for image in split.images]
    assert len({image.name for image in images}) == 1003
    assert found.val.images[1].name == (
        f"hf:{tmp_path}/kitti_distance {names[0]}[801]"
        if len(names) == 2
        else f"hf:{tmp_path}/kitti_distance {names[1]}[1]"
    )
    assert found.val.images[1].open().getpixel((0, 0)) == (801 % 256, 801 // 256, 0)


def test_splits_of_their_own_come_before_the_two_in_one(tmp_path: Path) -> None:
    """All four lists of VTAB-1k, made a data set: the thousand may be in any order."""
    parts = {"train800": range(800), "val200": range(800, 1000), "test": range(1000, 1003)}
    splits = {name: _rows(numbers) for name, numbers in parts.items()}
    _save(tmp_path / "kitti_distance", train800val200=_rows(range(999, -1, -1)), **splits)
    _check(read_vtab_hub(f"hf:{tmp_path}/{{task}}", VTAB["kitti_distance"]))


def _good() -> dict[str, Any]:
    return {"train": _rows(range(800)), "val": _rows(range(800, 1000)), "test": _rows(range(1000, 1003))}


def test_as_a_task(tmp_path: Path) -> None:
    """Under the other usual name, the source said, and images left alone until they are opened."""
    splits = _good()
    raw = splits["test"].cast_column("image", datasets.Image(decode=False))
    broken = raw.map(lambda row: {"image": {"bytes": b"no", "path": None}})
    _save(tmp_path / "kitti", **splits | {"test": broken.cast_column("image", datasets.Image())})
    data = read_vtab(f"hf:{tmp_path}/{{task}}", "kitti_distance")
    assert (data.name, data.source) == ("kitti_distance", "hugging face")
    assert data.where.startswith(f"hf:{tmp_path}/kitti: train[0:800], ")
    task = read_vtab(f"hf:{tmp_path}/{{task}}", "kitti_distance", source="hugging face").task()
    assert (task.name, task.classes, len(task.train_and_val().train)) == ("kitti_distance", _KITTI, 1000)
    assert task.test is not None
    with pytest.raises(UnreadableImages, match=r"kitti test\[2\]"):
        task.test.images[2].open()


def test_numbers_as_labels(tmp_path: Path) -> None:
    """Without class names the numbers are the names, also of a class without any image."""
    kind = datasets.Value("int64")
    _save(tmp_path / "sun397", **{name: rows.cast_column("label", kind) for name, rows in _good().items()})
    found = read_vtab_hub(f"hf:{tmp_path}/{{task}}", VTAB["sun397"])
    _check(found)
    assert found.classes == tuple(map(str, range(397)))


def test_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One data set with a configuration for each task, here in a folder as it would lie on the Hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    card = ["---", "configs:"]
    for name, splits in {"dtd": {"train": _rows(range(7))}, "kitti": _good()}.items():
        card += [f"- config_name: {name}", "  data_files:"]
        for split, rows in splits.items():
            card += [f"  - split: {split}", f"    path: {name}/{split}.parquet"]
            (tmp_path / "vtab" / name).mkdir(parents=True, exist_ok=True)
            rows.to_parquet(str(tmp_path / "vtab" / name / f"{split}.parquet"))
    (tmp_path / "vtab" / "README.md").write_text("\n".join([*card, "---", ""]))
    template = f"hf:{tmp_path}/vtab:{{task}}"
    found = read_vtab_hub(template, VTAB["kitti_distance"])
    _check(found)
    assert found.where.startswith(f"hf:{tmp_path}/vtab:kitti: train[0:800], ")
    with pytest.raises(DataError, match=r"vtab:dtd has train \(7\); expected"):
        read_vtab_hub(template, VTAB["dtd"])
    with pytest.raises(DataError, match=r"Tried:\n .*vtab:svhn cannot be loaded.*BuilderConfig"):
        read_vtab_hub(template, VTAB["svhn"])


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        ("hf:someone/vtab-1k-{task}", ("someone/vtab-1k-clevr_distance", None)),
        ("hf:someone/vtab-1k:{task}", ("someone/vtab-1k", "clevr_distance")),
    ],
)
def test_names_on_the_hub(
    monkeypatch: pytest.MonkeyPatch, template: str, asked: tuple[str, str | None]
) -> None:
    calls: list[tuple[str, str | None]] = []

    def not_found(name: str, configuration: str | None) -> None:
        calls.append((name, configuration))
        raise FileNotFoundError("nothing there")

    monkeypatch.setattr(datasets, "load_dataset", not_found)
    with pytest.raises(DataError) as caught:
        read_vtab_hub(template, VTAB["clevr_distance"])
    message = str(caught.value)
    assert message.startswith(f"{template} holds no data of clevr_distance. Tried:\n")
    for name in ("clevr_distance", "clevr_dist"):
        assert f"  {template.replace('{task}', name)} cannot be loaded: FileNotFoundError: noth" in message
    assert calls[0] == asked
    assert len(calls) == 2


def _counted(**counts: int) -> dict[str, Any]:
    return {name: _rows(range(count)) for name, count in counts.items()}


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"train": 1500, "test": 5}, "train (1500), test (5)"),
        ({"train": 800, "val": 199, "test": 5}, "train (800), val (199), test (5)"),
        ({"train800": 801, "val200": 200, "test": 5}, "train800 (801), val200 (200), test (5)"),
        ({"train": 1000, "val": 200, "test": 5}, "train (1000), val (200), test (5)"),
        ({"train800val200": 999, "test": 5}, "train800val200 (999), test (5)"),
        ({"train800": 1000, "test": 5}, "train800 (1000), test (5)"),
        ({"train": 800, "test": 5}, "train (800), test (5)"),
        ({"train": 800, "val": 200}, "train (800), val (200)"),
        ({"train": 1000}, "train (1000)"),
        ({"val": 200, "test": 5}, "val (200), test (5)"),
        ({"training": 1000, "test": 5}, "training (1000), test (5)"),
    ],
)
def test_other_splits_are_refused(tmp_path: Path, counts: dict[str, int], found: str) -> None:
    _save(tmp_path / "kitti", **_counted(**counts))
    with pytest.raises(DataError) as caught:
        read_vtab_hub(f"hf:{tmp_path}/{{task}}", VTAB["kitti_distance"])
    assert str(caught.value).startswith(
        f"hf:{tmp_path}/kitti has {found}; expected train800 (800), val200 (200) and test, or "
    )


def test_an_empty_test_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the Hub there may be one; `load_from_disk` does not read any."""
    loaded = datasets.DatasetDict(_counted(train=800, val=200, test=0))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, configuration: loaded)
    with pytest.raises(DataError, match=r"a/dtd has train \(800\), val \(200\), test \(0\); expected"):
        read_vtab_hub("hf:a/{task}", VTAB["dtd"])


def test_other_data_is_refused(tmp_path: Path) -> None:
    good = _good()
    renamed = _rows(range(1000, 1003), names=_KITTI[::-1])
    five = {name: _rows(range(len(rows)), names=(*_KITTI, "fifth")) for name, rows in good.items()}
    plain = {name: rows.cast_column("label", datasets.Value("int64")) for name, rows in good.items()}
    beyond = _rows(range(3), kind=datasets.Value("int64"), labels=[3, 4, -1])
    text = {name: rows.cast_column("label", datasets.Value("string")) for name, rows in good.items()}
    cases: dict[str, dict[str, Any]] = {
        "two splits that mean val": good | {"valid": good["val"]},
        "'label' has 5 classes; kitti_distance has 4": five,
        "the splits name the classes of 'label' differently": good | {"test": renamed},
        r"kitti test: 2 row\(s\) with a label .* no number from 0 to 3, the first are 1 \(4\), 2 \(-1\)": (
            plain | {"test": beyond}
        ),
        r"kitti val: 1 row\(s\) with a label .* 1 \(-1\)": (
            good | {"val": _rows(range(200), labels=[0, -1] + [0] * 198)}
        ),
        r"kitti train: 800 row\(s\) with a label .* 0 \('0'\), 1 \('1'\)": text,
        r"no image column .*its columns are label": {n: r.remove_columns("image") for n, r in good.items()},
        "no columns 'image' and 'label' in test; train has them": (
            good | {"test": good["test"].remove_columns("label")}
        ),
    }
    for number, (message, splits) in enumerate(cases.items()):
        _save(tmp_path / str(number) / "kitti", **splits)
        with pytest.raises(DataError, match=message):
            read_vtab_hub(f"hf:{tmp_path}/{number}/{{task}}", VTAB["kitti_distance"])


def test_data_without_splits_is_refused(tmp_path: Path) -> None:
    _rows(range(5)).save_to_disk(str(tmp_path / "kitti"))
    with pytest.raises(DataError, match=r"kitti has one split without a name \(5\); expected train800"):
        read_vtab_hub(f"hf:{tmp_path}/{{task}}", VTAB["kitti_distance"])


def test_no_data(tmp_path: Path) -> None:
    template = f"hf:{tmp_path}/vtab-{{task}}"
    with pytest.raises(
        DataError,
        match=rf"(?s)^{re.escape(template)} holds no data of smallnorb_azimuth\. Tried:\n"
        r"  hf:\S*/vtab-smallnorb_azimuth cannot be loaded.*\n  hf:\S*/vtab-smallnorb_azi cannot be loaded",
    ):
        read_vtab_hub(template, VTAB["smallnorb_azimuth"])


def test_a_template_without_the_task() -> None:
    with pytest.raises(DataError, match=r"hf:someone/vtab-1k would be the same .* Write \{task\} where"):
        read_vtab_hub("hf:someone/vtab-1k", VTAB["dtd"])


def test_without_the_package_the_message_holds_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vpt\[hf\]'"):
        read_vtab_hub("hf:someone/vtab-1k-{task}", VTAB["dtd"])
