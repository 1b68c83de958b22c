"""Which images of a fine-grained data set train and validate: VPT's JSON files, or a seeded share."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

from e2vpt.benchmarks.fgvc.lists import ImageLists, find_file, read_file
from e2vpt.data.images import ImageFile
from e2vpt.data.listing import Listing, refuse
from e2vpt.data.randomness import shuffled
from e2vpt.data.splits import SplitName
from e2vpt.errors import DataError

_FILES: dict[SplitName, str] = {"train": "train.json", "val": "val.json", "test": "test.json"}


def read_vpt_splits(listing: Listing, lists: ImageLists, below: str) -> dict[str, SplitName] | None:
    """The split of each image by its path, from the `train.json`, `val.json` and `test.json` of VPT.

    Each holds one object, `{path: class number}`, with paths below the folder `below` ("" for the data folder
    itself); None where there is none of them. Which images they name is theirs to say; the class of an image
    is the official one, and the numbers have to stand for these classes one to one. The format is that of
    github.com/KMnP/vpt, src/data/datasets/json_dataset.py.

    Raises:
        DataError: only some of the files are there, one that does not parse, an image that is not in the
            official lists or in two of the files, or numbers that disagree with the official classes.
    """
    if not any((name,) in listing.files for name in _FILES.values()):
        return None
    official = {image.path: image.class_id for image in lists.images}
    found: dict[str, SplitName] = {}
    class_of: dict[int, int] = {}
    number_of: dict[int, int] = {}
    for split, name in _FILES.items():
        numbers = _read(find_file(listing, name), below)
        refuse(
            f"{listing.where}: {name} names images that are not in the official lists",
            numbers.keys() - official.keys(),
            f"Is {name} of this data set and layout? Correct or remove the JSON files",
        )
        refuse(
            f"{listing.where}: images of {name} that are in another of the JSON files too",
            numbers.keys() & found.keys(),
            "Keep each in one of them",
        )
        found.update(dict.fromkeys(numbers, split))
        for path, number in numbers.items():
            class_id = official[path]
            first = class_of.setdefault(number, class_id), number_of.setdefault(class_id, number)
            if first != (class_id, number):
                names = lists.class_names
                raise DataError(
                    f"{listing.where}: {name} numbers {path} {number}, which is {names[class_id]!r} in the "
                    f"official lists; before, {number} was {names[first[0]]!r} and {names[class_id]!r} was "
                    f"{first[1]}. Correct or remove the JSON files."
                )
    return found


def spare_for_validation(labels: Sequence[int], fraction: float, seed: int) -> list[int]:
    """Ascending indices of n·fraction (rounded up) of all n images, spread over the classes in proportion.

    Each class gives its share rounded down; what is missing comes one each from the classes with the largest
    remainders, the lower label first. No class gives its last image. `stratified_split` rounds in each class,
    so that its total is not n·fraction, while the published sizes (VPT, arXiv 2203.12119, table of data sets)
    are: 600 of 5994, 2393 of 23929, 1200 of 12000, 815 of 8144. A fixed function of the arguments.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    counts = _shares({label: len(indices) for label, indices in members.items()}, Fraction(str(fraction)))
    return sorted(
        index
        for label, indices in members.items()
        for index in shuffled(indices, "split", seed, label)[: counts[label]]
    )


def _shares(sizes: Mapping[int, int], fraction: Fraction) -> dict[int, int]:
    """How many images each class gives; in fractions, because 0.1 * 30 is more than 3 in floating point."""
    counts = {label: min(floor(size * fraction), size - 1) for label, size in sizes.items()}
    missing = ceil(sum(sizes.values()) * fraction) - sum(counts.values())
    by_remainder = sorted(sizes, key=lambda label: (-(sizes[label] * fraction % 1), label))
    while missing > 0 and any(counts[label] < sizes[label] - 1 for label in sizes):
        givers = [label for label in by_remainder if counts[label] < sizes[label] - 1][:missing]
        counts.update({label: counts[label] + 1 for label in givers})
        missing -= len(givers)
    return counts


def _read(file: ImageFile, below: str) -> dict[str, int]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("an image is named twice")
        return dict(pairs)

    try:
        content = json.loads(read_file(file), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} cannot be read as JSON: {error}. Download it again.") from error
    if not isinstance(content, dict) or any(type(number) is not int for number in content.values()):
        raise DataError(f"{file.name} is not of the form {{path: class number}}. Is it VPT's split file?")
    return {f"{below}/{path}" if below else path: number for path, number in content.items()}
