"""Official lists of images: what they hold, and finding and reading their files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from e2vpt.data.images import ImageFile
from e2vpt.data.listing import Listing, refuse
from e2vpt.data.splits import SplitName
from e2vpt.errors import SHOWN, DataError

Key = TypeVar("Key")
Value = TypeVar("Value")
_ARCHIVES = frozenset({".tgz", ".gz", ".tar", ".zip", ".bz2", ".xz"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """One image: its path below the data folder with `/`, the id of its class, and its official split."""

    path: str
    class_id: int
    split: SplitName


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLists:
    """What a data set's own files say; every `class_id` has a name of its own.

    Raises:
        DataError: an image that is listed twice.
    """

    where: str
    images: tuple[ListedImage, ...]
    class_names: Mapping[int, str]

    def __post_init__(self) -> None:
        counted = Counter(image.path for image in self.images)
        refuse(
            f"{self.where}: images that the lists name twice",
            (path for path, count in counted.items() if count > 1),
            "Download or unpack the lists again",
        )


def find_file(listing: Listing, *paths: str) -> ImageFile:
    """The first of `paths` that is there.

    Raises:
        DataError: none of them is; says what lies there instead, and what may have to be unpacked.
    """
    for path in paths:
        if (file := listing.files.get(tuple(path.split("/")))) is not None:
            return file
    found = [*(f"{top}/" for top in listing.tops()), *_top_files(listing)]
    packed = [name for name in _top_files(listing) if PurePosixPath(name).suffix.lower() in _ARCHIVES]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise DataError(
        f"{listing.where} has no {' or '.join(paths)}; found {', '.join(found[:SHOWN]) or 'nothing'}{more}. "
        + (f"Unpack {', '.join(packed[:SHOWN])} there." if packed else "Unpack the official archive there.")
    )


def read_file(file: ImageFile, most: int | None = None) -> bytes:
    """The bytes of a list, wherever it lies; `most` bounds its size before anything is read.

    Raises:
        DataError: it cannot be read, is larger than `most` bytes, or its archive ends inside it.
    """
    try:
        with file.path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size if file.size is None else file.size
            if most is not None and size > most:
                raise DataError(
                    f"{file.name} has {size} bytes; expected at most {most}. Is it the right file?"
                )
            opened.seek(file.offset)
            data = opened.read(-1 if file.size is None else file.size)
    except OSError as error:
        raise DataError(f"{file.name} cannot be read: {error.strerror}. Check its permissions.") from error
    if file.size is not None and len(data) < file.size:
        raise DataError(f"{file.name}: {file.path} ends inside this file. Download it again.")
    return data


def read_pairs(
    file: ImageFile, key: Callable[[str], Key], value: Callable[[str], Value], expected: str
) -> dict[Key, Value]:
    """Lines of `key value` as a dictionary; `key` and `value` raise ValueError for what they cannot take.

    Raises:
        DataError: not UTF-8; or naming the line, one that does not parse or whose key was there before.
    """
    pairs: dict[Key, Value] = {}
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            first, rest = line.split(maxsplit=1)
            name, content = key(first), value(rest.strip())
        except ValueError as error:
            raise DataError(
                f"{file.name}, line {number}: {line.strip()!r}; expected {expected}. Unpack it again."
            ) from error
        if name in pairs:
            raise DataError(f"{file.name}, line {number}: {first} was already there. Unpack it again.")
        pairs[name] = content
    return pairs


def distinct_names(names: Mapping[int, str]) -> dict[int, str]:
    """`names` in order of their ids; a name that several have gets the id behind it."""
    counted = Counter(names.values())
    return {
        class_id: name if counted[name] == 1 else f"{name} ({class_id})"
        for class_id, name in sorted(names.items())
    }


def _top_files(listing: Listing) -> list[str]:
    return sorted(parts[0] for parts in listing.files if len(parts) == 1)


def _text(file: ImageFile) -> str:
    try:
        return read_file(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file.name} is not UTF-8 text ({error.reason} at byte {error.start}). Unpack it again."
        ) from error
