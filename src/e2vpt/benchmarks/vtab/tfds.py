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
from e2vpt.benchmarks.vtab.tfrecord import read_records
from e2vpt.data.decoding.images import ImageFile
from e2vpt.errors import DataError, visible
from e2vpt.files.paths import listed, look_at

_Value = TypeVar("_Value", bytes, int, float)
_INFO = "dataset_info.json"
_VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_AGAIN = "Prepare the data set again with tfds, file format tfrecord."


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedDataset:
    """One prepared version: how many examples each shard of each split holds.

    `before_4_2`: TFDS of a version below 4.2.0 wrote it, whose dataset_info.json has no moduleName.
    """

    folder: Path
    name: str
    splits: Mapping[str, tuple[int, ...]]
    before_4_2: bool

    @property
    def where(self) -> str:
        """What messages call it."""
        return visible(str(self.folder))

    def counts(self) -> dict[str, int]:
        """Examples in each split."""
        return {split: sum(lengths) for split, lengths in self.splits.items()}

    def shards(self, split: str) -> list[Path]:
        """The files of a split, in order.

        Raises:
            DataError: no such split, or missing files, naming each.
        """
        if split not in self.splits:
            raise DataError(f"{self.where} has no split {split!r}; it has {', '.join(self.splits)}.")
        total = len(self.splits[split])
        names = [f"{self.name}-{split}.tfrecord-{i:05d}-of-{total:05d}" for i in range(total)]
        missing = [name for name in names if look_at(self.folder / name, DataError) != "file"]
        if missing:
            raise DataError(
                f"{self.where}: {len(missing)} of {total} files of {split} are missing: "
                f"{visible(', '.join(missing[:20]))}. Download or copy them again."
            )
        return [self.folder / name for name in names]


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
        image = self.one(key, bytes)
        # Wherever the payload holds these bytes, it is the same image.
        start = self.offset + self.payload.index(image)
        return ImageFile(name=self.name, path=self.path, offset=start, size=len(image))

    def one(self, key: str, kind: type[_Value]) -> _Value:
        """The one value of a kind at `key`."""
        values = self.values(key, kind)
        if len(values) != 1:
            raise DataError(
                f"{self.name}: {key} holds {len(values)} values ({kind.__name__}); expected one. {_AGAIN}"
            )
        return values[0]

    def values(self, key: str, kind: type[_Value]) -> list[_Value]:
        """The values of a kind at `key`, which may be none."""
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

    def open(self, as_stored: bool = False) -> Image.Image:
        """See `ImageSource.open`."""
        return self.file.open(as_stored).point(([0] + [255] * 255) * 3)


def prepared_versions(folder: Path) -> list[Path]:
    """The finished versions in `folder`, which TFDS named after the data set or its config, ascending.

    Raises:
        DataError: the folder cannot be looked into.
    """
    if look_at(folder, DataError) != "folder":
        return []
    named = [path for path in listed(folder, DataError) if _VERSION.fullmatch(path.name)]
    finished = [path for path in named if look_at(path / _INFO, DataError) == "file"]
    return sorted(finished, key=lambda path: tuple(map(int, path.name.split("."))))


def open_prepared(folder: Path, versions: Sequence[str]) -> PreparedDataset:
    """The version in `folder` that fits the first of `versions`, patterns such as `3.*.*`; the highest of it.

    Raises:
        DataError: none fits (says which versions are there), its dataset_info.json is broken, or its shards
            are not TFRecord files of the usual names.
    """
    found = prepared_versions(folder)
    fitting = [path for pattern in versions for path in reversed(found) if fnmatch(path.name, pattern)]
    if not fitting:
        raise DataError(
            f"{visible(str(folder))}: no prepared version {' or '.join(versions)}; found "
            f"{', '.join(path.name for path in found) or 'none'}. Prepare the data set as docs/benchmarks.md "
            "says, or name the folder that holds all data sets."
        )
    where = visible(str(fitting[0] / _INFO))
    info = _read_info(fitting[0] / _INFO, where)
    try:
        splits = {str(split["name"]): _lengths(split) for split in info["splits"]}
        templates = {str(split.get("filepathTemplate", _TEMPLATE)) for split in info["splits"]} - {_TEMPLATE}
        name, file_format = str(info["name"]), str(info.get("fileFormat", "tfrecord"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} does not list splits with shardLengths ({error!r}). {_AGAIN}") from error
    if file_format != "tfrecord":
        raise DataError(f"{where}: file format {file_format!r}; expected tfrecord. {_AGAIN}")
    if templates:
        raise DataError(
            f"{where}: shards are named {visible(min(templates))}; expected {_TEMPLATE}. {_AGAIN}"
        )
    return PreparedDataset(folder=fitting[0], name=name, splits=splits, before_4_2="moduleName" not in info)


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
            f"{data.where}: {split} has {total} examples; {split}[{start}:{stop}] is needed. {_AGAIN}"
        )
    first = 0
    for path, length in zip(shards, data.splits[split], strict=True):
        wanted = range(max(start - first, 0), min(stop - first, length))
        first += length
        for number, (offset, payload) in enumerate(read_records(path, wanted, length) if wanted else ()):
            name = f"{visible(str(path))}[{wanted[number]}]"
            features = parse_example(payload, name, keys)
            yield Record(name=name, path=path, offset=offset, payload=payload, features=features)


def class_names(data: PreparedDataset, key: str, expected: int) -> tuple[str, ...] | None:
    """The names of the classes at `key`, in order of their numbers; None where TFDS stored none.

    Raises:
        DataError: they cannot be read, or are another number than `expected`.
    """
    path = data.folder / f"{key}.labels.txt"
    if look_at(path, DataError) != "file":
        return None
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the class names in {visible(str(path))}: {error}. {_AGAIN}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != expected:
        raise DataError(
            f"{data.where}: {key} has {len(names)} classes; expected {expected}. Is it the official data?"
        )
    return names


def _lengths(split: Mapping[str, Any]) -> tuple[int, ...]:
    """JSON of protobuf writes 64-bit numbers as text."""
    lengths = tuple(int(length) for length in split["shardLengths"])
    if not lengths or min(lengths) < 0:
        raise ValueError(f"shardLengths {lengths}")
    return lengths


def _read_info(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where} cannot be read as JSON: {error}. {_AGAIN}") from error
    if not isinstance(content, dict):
        raise DataError(f"{where} holds no JSON object. {_AGAIN}")
    return content
