"""Stanford Cars: `cars_train/`, `cars_test/` and `devkit/`, or the older `car_ims/` with `cars_annos.mat`."""

from __future__ import annotations

from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage, distinct_names, find_file
from e2vpt.benchmarks.fgvc.matlab import MatFile, mat_numbers, mat_texts, read_mat
from e2vpt.data.sources.listing import Listing
from e2vpt.data.sources.splits import SplitName
from e2vpt.errors import DataError

_TEST = ("cars_test_annos_withlabels.mat", "cars_test_annos_withlabels (1).mat")
"""The second is its name in the data set's copy on Kaggle."""


def read_cars(listing: Listing) -> ImageLists:
    """The lists of Stanford Cars; of both layouts in one folder, the one with `cars_train/` counts.

    Raises:
        DataError: a list that is missing or truncated (the labels of the test images are a file of their own,
            `cars_test_annos_withlabels.mat`), or a class without a name.
    """
    folders = {parts[-1] for parts in listing.folders}
    older = "car_ims" in folders and "cars_train" not in folders
    images, names = _one_folder(listing) if older else _two_folders(listing)
    unnamed = sorted({image.class_id for image in images} - names.keys())
    if unnamed:
        raise DataError(
            f"{listing.where}: images of classes {unnamed[:20]}, but class_names has {len(names)} names. "
            "Unpack the lists again."
        )
    return ImageLists(where=listing.where, images=images, class_names=distinct_names(names))


def _one_folder(listing: Listing) -> tuple[tuple[ListedImage, ...], dict[int, str]]:
    mat = read_mat(find_file(listing, "cars_annos.mat"))
    paths = mat_texts(mat, "annotations", "relative_im_path")
    labels, tests = mat_numbers(mat, "annotations", "class"), mat_numbers(mat, "annotations", "test")
    images = (
        ListedImage(path=path, class_id=label, split="test" if test else "train")
        for path, label, test in zip(paths, labels, tests, strict=True)
    )
    return tuple(images), _names(mat)


def _two_folders(listing: Listing) -> tuple[tuple[ListedImage, ...], dict[int, str]]:
    names = _names(read_mat(find_file(listing, "cars_meta.mat")))
    train = _annotated(read_mat(find_file(listing, "cars_train_annos.mat")), "cars_train", "train")
    test = _annotated(read_mat(find_file(listing, *_TEST)), "cars_test", "test")
    return (*train, *test), names


def _annotated(mat: MatFile, folder: str, split: SplitName) -> tuple[ListedImage, ...]:
    names, labels = mat_texts(mat, "annotations", "fname"), mat_numbers(mat, "annotations", "class")
    return tuple(
        ListedImage(path=f"{folder}/{name}", class_id=label, split=split)
        for name, label in zip(names, labels, strict=True)
    )


def _names(mat: MatFile) -> dict[int, str]:
    return dict(enumerate(mat_texts(mat, "class_names"), start=1))
