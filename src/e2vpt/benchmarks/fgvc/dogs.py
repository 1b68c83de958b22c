"""Stanford Dogs: `Images/n02085620-Chihuahua/...`, and `train_list.mat` and `test_list.mat` of lists.tar."""

from __future__ import annotations

from collections.abc import Sequence

from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage, distinct_names, find_file
from e2vpt.benchmarks.fgvc.matlab import mat_numbers, mat_texts, read_mat
from e2vpt.data.sources.listing import Listing
from e2vpt.data.sources.splits import SplitName
from e2vpt.errors import DataError


def read_dogs(listing: Listing) -> ImageLists:
    """The lists of Stanford Dogs; `n02085936-Maltese_dog` is called `Maltese dog`.

    Raises:
        DataError: a list that is missing or truncated, or a class with several folders.
    """
    images = (*_images(listing, "train"), *_images(listing, "test"))
    folders = _folders(listing.where, images)
    names = {class_id: folder.partition("-")[2].replace("_", " ") for class_id, folder in folders.items()}
    unnamed = sorted(folders[class_id] for class_id, name in names.items() if not name.strip())
    if unnamed:
        raise DataError(
            f"{listing.where}: folders {unnamed[:20]} do not name a breed; expected n02085620-Chihuahua."
        )
    return ImageLists(where=listing.where, images=images, class_names=distinct_names(names))


def _images(listing: Listing, split: SplitName) -> tuple[ListedImage, ...]:
    file = find_file(listing, f"{split}_list.mat")
    mat = read_mat(file)
    paths, labels = mat_texts(mat, "file_list"), mat_numbers(mat, "labels")
    if len(paths) != len(labels):
        raise DataError(
            f"{file.name} has {len(paths)} images in file_list but {len(labels)} labels. Unpack it again."
        )
    return tuple(
        ListedImage(path=f"Images/{path}", class_id=label, split=split)
        for path, label in zip(paths, labels, strict=True)
    )


def _folders(where: str, images: Sequence[ListedImage]) -> dict[int, str]:
    """The folder of each class, which names it; classes and folders have to match one to one."""
    folder_of: dict[int, str] = {}
    class_of: dict[str, int] = {}
    for image in images:
        folder = image.path.split("/")[1]
        first = folder_of.setdefault(image.class_id, folder), class_of.setdefault(folder, image.class_id)
        if first != (folder, image.class_id):
            raise DataError(
                f"{where}: the lists put {image.path} into class {image.class_id}; before, class "
                f"{image.class_id} was {first[0]}/ and {folder}/ was class {first[1]}. Unpack them again."
            )
    return folder_of
