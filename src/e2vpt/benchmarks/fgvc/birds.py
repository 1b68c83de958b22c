"""CUB-200-2011 and NABirds: text files of `id value` lines beside a folder `images`.

Both have `images.txt`, `image_class_labels.txt`, `train_test_split.txt` (1 trains) and `classes.txt`.
The id of an image is a number in CUB-200-2011 and a UUID in NABirds, whose file names lack its dashes, so the
path is read from `images.txt` alone. `classes.txt` of NABirds holds the inner nodes of its tree of birds too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Set

from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage, distinct_names, find_file, read_pairs
from e2vpt.data.listing import Listing, refuse
from e2vpt.data.splits import SplitName

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
    paths = read_pairs(find_file(listing, "images.txt"), str, str, "the id of an image and its path")
    labels = read_pairs(
        find_file(listing, _LABELS), str, _class_in(classes), "the id of an image and a class of classes.txt"
    )
    splits = read_pairs(
        find_file(listing, _SPLITS), str, _official_split, "the id of an image and 1 (train) or 0 (test)"
    )
    for name, ids in ((_LABELS, labels.keys()), (_SPLITS, splits.keys())):
        _check_ids(listing.where, paths.keys(), name, ids)
    return tuple(
        ListedImage(path=f"images/{path}", class_id=labels[image], split=splits[image])
        for image, path in paths.items()
    )


def _class_in(classes: Container[int]) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if (class_id := int(text)) not in classes:
            raise ValueError(text)
        return class_id

    return parse


def _official_split(text: str) -> SplitName:
    if text not in ("0", "1"):
        raise ValueError(text)
    return "train" if text == "1" else "test"


def _check_ids(where: str, images: Set[str], name: str, ids: Set[str]) -> None:
    refuse(
        f"{where}: images.txt has {len(images)} images, {name} has {len(ids)}; ids in only one of them",
        images ^ ids,
        "Unpack both again",
    )
