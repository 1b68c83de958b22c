"""CUB-200-2011 and NABirds: text files of `id value` lines beside a folder `images`.

Both have `images.txt`, `image_class_labels.txt`, `train_test_split.txt` (1 trains) and `classes.txt`.
The id of an image is a number in CUB-200-2011 and a UUID in NABirds, whose file names lack its dashes, so the
path is read from `images.txt` alone. `classes.txt` of NABirds holds the inner nodes of its tree of birds too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import TypeVar

from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage, distinct_names, find_file, read_pairs
from e2vpt.data.sources.listing import Listing, refuse

_Value = TypeVar("_Value")
_LABELS, _SPLITS = "image_class_labels.txt", "train_test_split.txt"


def read_cub(listing: Listing) -> ImageLists:
    """The lists of CUB-200-2011; `001.Black_footed_Albatross` is called `Black footed Albatross`.

    Raises:
        DataError: a list that is missing or disagrees with another, or a line that does not parse.
    """
    classes = _classes(listing)
    names = {
        class_id: re.sub(r"^\d+\.", "", name).replace("_", " ").strip() for class_id, name in classes.items()
    }
    return ImageLists(
        where=listing.where, images=_images(listing, classes), class_names=distinct_names(names)
    )


def read_nabirds(listing: Listing) -> ImageLists:
    """The lists of NABirds; of the tree of birds in `classes.txt` those with images are the classes.

    Raises:
        DataError: as for `read_cub`.
    """
    classes = _classes(listing)
    images = _images(listing, classes)
    used = {image.class_id for image in images}
    names = {class_id: name for class_id, name in classes.items() if class_id in used}
    return ImageLists(where=listing.where, images=images, class_names=distinct_names(names))


def _classes(listing: Listing) -> dict[int, str]:
    file = find_file(listing, "classes.txt")
    return read_pairs(file, int, str, "the number of a class and its name")


def _images(listing: Listing, classes: Container[int]) -> tuple[ListedImage, ...]:
    def read(name: str, value: Callable[[str], _Value], expected: str) -> dict[str, _Value]:
        return read_pairs(find_file(listing, name), str, value, f"the id of an image and {expected}")

    paths = read("images.txt", str, "its path")
    labels = read(_LABELS, lambda text: _one_of(int(text), classes), "a class of classes.txt")
    trains = read(_SPLITS, lambda text: _one_of(text, ("0", "1")) == "1", "1 (train) or 0 (test)")
    for name, ids in ((_LABELS, labels.keys()), (_SPLITS, trains.keys())):
        refuse(
            f"{listing.where}: images.txt has {len(paths)} images, {name} has {len(ids)}; "
            "ids in only one of them",
            paths.keys() ^ ids,
            "Unpack both again",
        )
    return tuple(
        ListedImage(path=f"images/{path}", class_id=labels[id], split="train" if trains[id] else "test")
        for id, path in paths.items()
    )


def _one_of(value: _Value, allowed: Container[_Value]) -> _Value:
    if value not in allowed:
        raise ValueError(value)
    return value
