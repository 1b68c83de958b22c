"""Which images of a fine-grained data set train and validate: VPT's JSON files, or a seeded share."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor

from e2vpt.benchmarks.fgvc.folders import KnownPaths
from e2vpt.benchmarks.fgvc.lists import ImageLists, find_file, read_file
from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.randomness import shuffled
from e2vpt.data.sources.listing import Listing, refuse
from e2vpt.data.sources.splits import SplitName
from e2vpt.errors import DataError, visible

_FILES: dict[SplitName, str] = {"train": "train.json", "val": "val.json", "test": "test.json"}


def read_vpt_splits(listing: Listing, lists: ImageLists) -> dict[str, SplitName] | None:
    """The split of each image by its official path, from the `train.json`, `val.json` and `test.json` of VPT.

    Each holds one object, `{path: class}`; None where there is none of them. A path may lack the first of the
    official folders, or have others before them. Which images the files name is theirs to say; the class of
    an image is the official one, and the files' classes, numbers or texts of any kind ("132" in CUB's), have
    to stand for these one to one. The format is that of github.com/KMnP/vpt,
    src/data/datasets/json_dataset.py.

    Raises:
        DataError: only some of the files are there, one that does not parse, an image that is not in the
            official lists or in two of the files, or classes that disagree with the official ones.
    """
    beside = {parts[-1] for parts in listing.files if len(parts) <= 2}  # The data folder, or around it.
    if not beside & set(_FILES.values()):
        return None
    known = KnownPaths(image.path for image in lists.images)
    official = {image.path: image.class_id for image in lists.images}
    found: dict[str, SplitName] = {}
    official_of: dict[str, int] = {}
    own_of: dict[int, str] = {}
    for split, name in _FILES.items():
        classes = _read(find_file(listing, name), known)
        refuse(
            f"{listing.where}: images of {name} that are in another of the JSON files too",
            classes.keys() & found.keys(),
            "Keep each in one of them",
        )
        found.update(dict.fromkeys(classes, split))
        for path, own in classes.items():
            class_id = official[path]
            first = official_of.setdefault(own, class_id), own_of.setdefault(class_id, own)
            if first != (class_id, own):
                names = lists.class_names
                raise DataError(
                    f"{listing.where}: {name} has {visible(path)} in class {own!r}, which is "
                    f"{names[class_id]!r} in the official lists; before, {own!r} was {names[first[0]]!r} and "
                    f"{names[class_id]!r} was {first[1]!r}. Correct or remove the JSON files."
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


def _read(file: ImageFile, known: KnownPaths) -> dict[str, str]:
    """The file's class, as text, of each image by its official path."""
    try:
        pairs = json.loads(read_file(file), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} cannot be read as JSON: {error}. Download it again.") from error
    form = f"{file.name} is not of the form {{path: class}}"
    # A list of pairs is an object; one that was a list in the file has no tuples.
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(f"{form}: it holds no object. Is it VPT's split file?")
    odd = [f"{path!r}: {str(value)[:80]!r}" for path, value in pairs if type(value) not in (int, str)]
    if odd:
        raise DataError(f"{form}: {odd[0]} is neither a number nor a text. Is it VPT's split file?")
    paths = [known.find(_parts(path)) for path, _ in pairs]
    refuse(
        f"{file.name} names images that are not in the official lists",
        (path for (path, _), at in zip(pairs, paths, strict=True) if at is None),
        "Is it of this data set and packing (Stanford Cars: car_ims/, or cars_train/ and cars_test/)? "
        "Correct or remove the JSON files",
    )
    twice = [path for path, count in Counter(paths).items() if count > 1]
    refuse(f"{file.name} names images twice", filter(None, twice), "Download it again")
    return {path: _class(value) for path, (_, value) in zip(paths, pairs, strict=True) if path is not None}


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def _class(value: int | str) -> str:
    """132, "132" and "0132" are one class."""
    text = str(value).strip()
    return str(int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else text
