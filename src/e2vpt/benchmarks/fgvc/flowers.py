"""Oxford Flowers 102: `jpg/image_00001.jpg` and so on, `imagelabels.mat`, `setid.mat`."""

from __future__ import annotations

from collections import Counter

from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage, find_file
from e2vpt.benchmarks.fgvc.matlab import MatFile, mat_numbers, read_mat
from e2vpt.data.sources.listing import Listing, refuse
from e2vpt.data.sources.splits import SplitName
from e2vpt.errors import DataError, MissingExtra

_SETS: dict[str, SplitName] = {"trnid": "train", "valid": "val", "tstid": "test"}


def flower_names() -> list[str]:
    """The names of the classes 1 to 102, which the archive numbers without naming them: torchvision's.

    Raises:
        MissingExtra: torchvision has no names yet.
    """
    from torchvision.datasets import Flowers102

    try:
        return [name.rstrip("?") for name in Flowers102.classes]
    except AttributeError:
        raise MissingExtra("Flowers have names in torchvision 0.22: pip install 'e2vpt[bench]'") from None


def read_flowers(listing: Listing) -> ImageLists:
    """The lists of Oxford Flowers 102, which have a validation set of their own.

    Raises:
        DataError: a list that is missing or truncated, an unknown class, or images in no set or
            in two.
    """
    labels_file, sets_file = find_file(listing, "imagelabels.mat"), find_file(listing, "setid.mat")
    labels, names = mat_numbers(read_mat(labels_file), "labels"), dict(enumerate(flower_names(), start=1))
    unknown = sorted(set(labels) - names.keys())
    if unknown:
        raise DataError(
            f"{labels_file.name} has classes {unknown[:20]}; expected 1 to {len(names)}. Download it again."
        )
    splits = _splits(read_mat(sets_file), len(labels))
    images = tuple(
        ListedImage(path=f"jpg/image_{number:05d}.jpg", class_id=label, split=splits[number])
        for number, label in enumerate(labels, start=1)
    )
    used = {label: names[label] for label in sorted(set(labels))}
    return ImageLists(where=listing.where, images=images, class_names=used)


def _splits(mat: MatFile, images: int) -> dict[int, SplitName]:
    """The split of each image by its number, which starts at 1."""
    numbers = {name: mat_numbers(mat, name) for name in _SETS}
    counted = Counter(number for listed in numbers.values() for number in listed)
    twice = {number for number, count in counted.items() if count > 1}
    wrong = twice | (counted.keys() ^ set(range(1, images + 1)))
    refuse(
        f"{mat.where} has {counted.total()} images, imagelabels.mat {images}; in no set, in two, or unknown",
        map(str, sorted(wrong)),
        "Download both again",
    )
    return {number: _SETS[name] for name, listed in numbers.items() for number in listed}
