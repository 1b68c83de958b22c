"""Official lists of images: what they hold, and finding and reading their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.sources.listing import Listing, refuse
from e2vpt.data.sources.splits import SplitName
from e2vpt.errors import SHOWN, DataError, UnreadableImages, visible

Key = TypeVar("Key")
Value = TypeVar("Value")
_ARCHIVES = frozenset({".tgz", ".gz", ".tar", ".zip", ".bz2", ".xz"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """One image: its path in the official archive with `/`, the id of its class, and its official split."""

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


def find_file(listing: Listing, *names: str) -> ImageFile:
    """The file of one of these names, wherever it lies; of several the one in the fewest folders.

    Raises:
        DataError: there is none (says what lies there instead, and what may have to be unpacked), or two are
            in equally many folders.
    """
    found = sorted((parts for parts in listing.files if parts[-1] in names), key=lambda at: (len(at), at))
    if len(found) > 1 and len(found[0]) == len(found[1]):
        both = " and ".join(visible("/".join(parts)) for parts in found[:2])
        raise DataError(f"{listing.where} has both {both}. Keep one of them.")
    if found:
        return listing.files[found[0]]
    files = sorted(parts[0] for parts in listing.files if len(parts) == 1)
    there = [*(f"{top}/" for top in listing.tops()), *files]
    packed = [name for name in files if PurePosixPath(name).suffix.lower() in _ARCHIVES]
    shown = visible(", ".join(there[:SHOWN])) or "nothing"
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    remedy = visible(", ".join(packed[:SHOWN])) or "the official archive"
    raise DataError(
        f"{listing.where} has no {' or '.join(names)}; found {shown}{more}. Unpack {remedy} there."
    )


def read_file(file: ImageFile) -> bytes:
    """The bytes of a list, wherever it lies.

    Raises:
        DataError: it is no regular file, too large, cannot be read, or its archive ends inside it.
    """
    try:
        return file.read()
    except UnreadableImages as error:
        raise DataError(
            f"{file.name} cannot be read: {error.problems[file.name]}. Unpack it again."
        ) from error


def read_pairs(
    file: ImageFile, key: Callable[[str], Key], value: Callable[[str], Value], expected: str
) -> dict[Key, Value]:
    """Lines of `key value` as a dictionary; `key` and `value` raise ValueError for what they cannot take.

    Raises:
        DataError: not UTF-8; or naming the line, one that does not parse or whose key was there before.
    """
    try:
        text = read_file(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file.name} is not UTF-8 text ({error.reason} at byte {error.start}). Unpack it again."
        ) from error
    pairs: dict[Key, Value] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        try:
            first, rest = line.split(maxsplit=1)
            name, content = key(first), value(rest.strip())
        except ValueError as error:
            found = repr(line.strip()[:200])
            raise DataError(f"{where}: {found}; expected {expected}. Unpack it again.") from error
        if name in pairs:
            raise DataError(f"{where}: {visible(first[:200])} was already there. Unpack it again.")
        pairs[name] = content
    return pairs


def distinct_names(names: Mapping[int, str]) -> dict[int, str]:
    """`names` in order of their ids; a name that several have gets the id behind it."""
    counted = Counter(names.values())
    return {
        class_id: name if counted[name] == 1 else f"{name} ({class_id})"
        for class_id, name in sorted(names.items())
    }
