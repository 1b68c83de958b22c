"""The folder of a fine-grained data set: what lies in it, and where in it the listed images are.

An image is known by the end of its path, as re-packed archives put folders around the official ones
(`cars_train/cars_train/00001.jpg`), and split files count their paths from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from e2vpt.benchmarks.fgvc.lists import ImageLists
from e2vpt.data.decoding.formats import is_image
from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.sources.listing import Listing, Parts, list_folder, list_tar, refuse
from e2vpt.errors import DataError, visible
from e2vpt.files.paths import look_at


class KnownPaths:
    """The official paths of images, found by other spellings: folders missing or added in front."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._whole = set(paths)
        self._ends: dict[str, str | None] = {}
        for path in self._whole:
            parts = path.split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                # An end that several have names none of them.
                self._ends[end] = None if end in self._ends else path

    def find(self, parts: Sequence[str]) -> str | None:
        """The one official path that ends in `parts`, or in which `parts` end; None if there is none."""
        longer = ("/".join(parts[start:]) for start in range(len(parts)))
        return self._ends.get("/".join(parts)) or next(filter(self._whole.__contains__, longer), None)


def open_fgvc(path: Path, image_folders: Sequence[str]) -> Listing:
    """Everything below `path`, which may be a .tar.

    Where none of `image_folders` is there, the uncompressed .tar files in `path` count as unpacked.

    Raises:
        DataError: nothing there, a file that is not a .tar, a damaged .tar, or a folder that cannot be read.
    """
    kind, where = look_at(path, DataError), visible(str(path))
    if kind == "nothing":
        raise DataError(f"{where} does not exist. Expected the folder of an unpacked official archive.")
    if kind != "folder":
        if path.suffix.lower() != ".tar":
            raise DataError(f"{where} is neither a folder nor a .tar. Unpack it and give the folder.")
        return list_tar(path)
    listing = list_folder(path)
    if any(parts[-1] in image_folders for parts in listing.folders):
        return listing
    files, folders = dict(listing.files), listing.folders
    for parts, file in sorted(listing.files.items()):
        if len(parts) == 1 and file.path.suffix.lower() == ".tar":
            archive = list_tar(file.path)
            files, folders = {**archive.files, **files}, folders | archive.folders
    return Listing(where=listing.where, files=files, folders=folders)


def image_files(listing: Listing, lists: ImageLists) -> dict[str, ImageFile]:
    """The file of every listed image, by its official path; of several places the one in the fewest folders.

    Raises:
        DataError: naming those that are missing, and images in the same folders that no list names.
    """
    known = KnownPaths(image.path for image in lists.images)
    found: dict[str, ImageFile] = {}
    others: list[Parts] = []
    tops: set[Parts] = set()
    for parts in sorted(listing.files, key=lambda parts: (len(parts), parts)):
        if (path := known.find(parts)) and len(parts) > path.count("/"):
            found.setdefault(path, listing.files[parts])
            tops.add(parts[: -path.count("/")])
        elif is_image(parts[-1]):
            others.append(parts)
    refuse(
        f"{listing.where}: images that the lists name but that are missing ({len(lists.images)} are listed)",
        {image.path for image in lists.images} - found.keys(),
        "Unpack the archive of images again",
    )
    refuse(
        f"{listing.where}: images that no list names",
        ("/".join(parts) for parts in others if any(parts[: len(top)] == top for top in tops)),
        "Move them away, or unpack the lists again",
    )
    return found
