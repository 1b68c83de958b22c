"""Data sets that TensorFlow Datasets prepared: `<name>/<config>/<version>/` with shards of TFRecords.

Examples are numbered over the shards in their order, and in each shard in the order of its records, so that
`read_slice(data, "train", 0, 800)` is what TFDS calls `train[:800]` (core/utils/shard_utils.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from e2vpt.benchmarks.vtab.example import Values, parse_example
from e2vpt.benchmarks.vtab.tfrecord import index_records, read_payloads
from e2vpt.data.images import ImageFile
from e2vpt.errors import DataError

_Value = TypeVar("_Value", bytes, int, float)
_INFO = "dataset_info.json"
_VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_AGAIN = "Prepare the data set again with tfds, file format tfrecord."


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedDataset:
    """One prepared version: how many examples each shard of each split holds."""

    folder: Path
    name: str
    splits: Mapping[str, tuple[int, ...]]

    def counts(self) -> dict[str, int]:
        """Examples in each split."""
        return {split: sum(lengths) for split, lengths in self.splits.items()}

    def shards(self, split: str) -> tuple[Path, ...]:
        """The files of a split, in order.

        Raises:
            DataError: no such split, or missing files, naming each.
        """
        if split not in self.splits:
            raise DataError(f"{self.folder} has no split {split!r}; it has {', '.join(self.splits)}.")
        total = len(self.splits[split])
        names = [f"{self.name}-{split}.tfrecord-{i:05d}-of-{total:05d}" for i in range(total)]
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            raise DataError(
                f"{self.folder}: {len(missing)} of {total} files of {split} are missing: "
                f"{', '.join(missing[:20])}. Download or copy them again."
            )
        return tuple(self.folder / name for name in names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One example: its payload and the place of that in the shard, and some of its features.

    Every method raises DataError where there is no such feature, or not as many values as it wants.
    """

    name: str
    path: Path
    offset: int
    payload: bytes
    features: Mapping[str, Values]

    def image(self, key: str) -> ImageFile:
        """The one encoded image at `key`, byte for byte as TFDS stored it, to be read in place."""
        image = self._one(key, bytes, "images")
        # Wherever the payload holds these bytes, it is the same image.
        start = self.offset + self.payload.index(image)
        return ImageFile(name=self.name, path=self.path, offset=start, size=len(image))

    def number(self, key: str) -> int:
        """The one whole number at `key`."""
        return self._one(key, int, "whole numbers")

    def numbers(self, key: str) -> list[int]:
        """The whole numbers at `key`, which may be none."""
        return self._values(key, int)

    def floats(self, key: str) -> list[float]:
        """The 32-bit floats at `key`, which may be none."""
        return self._values(key, float)

    def _one(self, key: str, kind: type[_Value], what: str) -> _Value:
        values = self._values(key, kind)
        if len(values) != 1:
            raise DataError(f"{self.name}: {key} holds {len(values)} {what}; expected one. {_AGAIN}")
        return values[0]

    def _values(self, key: str, kind: type[_Value]) -> list[_Value]:
        if key not in self.features:
            raise DataError(f"{self.name} has no feature {key!r}. Is it the right data set? {_AGAIN}")
        return [value for value in self.features[key] if isinstance(value, kind)]


@dataclass(frozen=True, kw_only=True, slots=True)
class BinaryImage:
    """dSprites stores pixels 0 and 1; the official definition shows them as 0 and 255."""

    file: ImageFile

    @property
    def name(self) -> str:
        """See `ImageSource.name`."""
        return self.file.name

    def open(self) -> Image.Image:
        """See `ImageSource.open`."""
        return self.file.open().point(([0] + [255] * 255) * 3)


def find_prepared(folder: Path, versions: Sequence[str]) -> Path:
    """The version in `folder`, which TFDS named after the data set or its config.

    Of `versions`, patterns such as `3.*.*`, the first that is there counts; of what fits it, the highest.

    Raises:
        DataError: none; says which versions are there.
    """
    found = sorted(
        (tuple(map(int, path.name.split("."))), path)
        for path in folder.glob("*.*.*")
        if _VERSION.fullmatch(path.name) and (path / _INFO).is_file()
    )
    for pattern in versions:
        if fitting := [path for _, path in found if fnmatch(path.name, pattern)]:
            return fitting[-1]
    raise DataError(
        f"{folder}: no prepared version {' or '.join(versions)}; found "
        f"{', '.join(path.name for _, path in found) or 'none'}. Prepare the data set once with "
        "`tfds build`, or name the folder that holds all data sets."
    )


def open_prepared(folder: Path) -> PreparedDataset:
    """The splits of the version in `folder`, from its dataset_info.json.

    Raises:
        DataError: that file is missing or broken, or the shards are not TFRecord files of the usual names.
    """
    info = _read_json(folder / _INFO)
    where = folder / _INFO
    if info.get("fileFormat", "tfrecord") != "tfrecord":
        raise DataError(f"{where}: file format {info['fileFormat']!r}; expected tfrecord. {_AGAIN}")
    try:
        splits = {str(split["name"]): _lengths(split) for split in info["splits"]}
        name = str(info["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} does not list splits with shardLengths ({error!r}). {_AGAIN}") from error
    odd = [s["filepathTemplate"] for s in info["splits"] if s.get("filepathTemplate", _TEMPLATE) != _TEMPLATE]
    if odd:
        raise DataError(f"{where}: shards are named {odd[0]}; expected {_TEMPLATE}. {_AGAIN}")
    return PreparedDataset(folder=folder, name=name, splits=splits)


def read_slice(
    data: PreparedDataset, split: str, start: int, stop: int, keys: Collection[str]
) -> Iterator[Record]:
    """Examples `start` to `stop` (excluded) of a split in the order of TFDS, with the features at `keys`.

    Only the shards that hold them are opened; each must have as many records as dataset_info.json says.

    Raises:
        DataError: a slice beyond the split, and missing, truncated, damaged or miscounted shards.
    """
    shards = data.shards(split)
    total = sum(data.splits[split])
    if not 0 <= start < stop <= total:
        raise DataError(
            f"{data.folder}: {split} has {total} examples; {split}[{start}:{stop}] is needed. {_AGAIN}"
        )
    first = 0
    for path, length in zip(shards, data.splits[split], strict=True):
        low, high = max(start - first, 0), min(stop - first, length)
        first += length
        if low >= high:
            continue
        index = index_records(path)
        if len(index) != length:
            raise DataError(
                f"{path} holds {len(index)} records; {_INFO} says {length}. Download or copy the file again."
            )
        chosen = index[low:high]
        for number, payload in enumerate(read_payloads(path, chosen)):
            name, offset = f"{path}[{low + number}]", int(chosen[number, 0])
            features = parse_example(payload, name, keys)
            yield Record(name=name, path=path, offset=offset, payload=payload, features=features)


def class_names(data: PreparedDataset, key: str, expected: int) -> tuple[str, ...] | None:
    """The names of the classes at `key`, in order of their numbers; None where TFDS stored none.

    Raises:
        DataError: features.json or the names have another number of classes than `expected`, or are broken.
    """
    names, path = None, data.folder / f"{key}.labels.txt"
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"Cannot read the class names in {path}: {error}. {_AGAIN}") from error
        names = tuple(line.strip() for line in lines if line.strip())
    for found in (_class_count(data, key), names and len(names)):
        if found not in (None, expected):
            raise DataError(
                f"{data.folder}: {key} has {found} classes; expected {expected}. Is it the official data?"
            )
    return names


def _class_count(data: PreparedDataset, key: str) -> int | None:
    path = data.folder / "features.json"
    try:
        features = _read_json(path)["featuresDict"]["features"] if path.is_file() else {}
        return int(features[key]["classLabel"]["numClasses"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):  # a broken file; others are forms of early versions of TFDS 4
            raise
        return None


def _lengths(split: Mapping[str, Any]) -> tuple[int, ...]:
    """JSON of protobuf writes 64-bit numbers as text."""
    lengths = tuple(int(length) for length in split["shardLengths"])
    if not lengths or min(lengths) < 0:
        raise ValueError(f"shardLengths {lengths}")
    return lengths


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}. {_AGAIN}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object. {_AGAIN}")
    return content
