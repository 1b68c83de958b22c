"""The folder of a fine-grained data set: finding it, and every image that its lists name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from e2vpt.benchmarks.fgvc.lists import ImageLists
from e2vpt.data.formats import is_image
from e2vpt.data.images import ImageFile
from e2vpt.data.listing import Listing, list_folder, list_tar, refuse
from e2vpt.errors import DataError


def open_fgvc(path: Path, image_folders: Sequence[str]) -> Listing:
    """What lies in the folder that holds one of `image_folders`: `path`, or the only such folder in it.

    Where neither is there, the uncompressed .tar files in `path` count as unpacked; `path` itself may be one.

    Raises:
        DataError: nothing there, a file that is not a .tar, a damaged .tar, or a folder that cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. Expected the folder of an unpacked official archive.")
    if not path.is_dir() and path.suffix.lower() != ".tar":
        raise DataError(f"{path} is neither a folder nor a .tar. Unpack it and give the folder.")
    listing = list_folder(path) if path.is_dir() else list_tar(path)
    return _inside(listing, image_folders) or _inside_archives(listing, image_folders)


def image_files(listing: Listing, lists: ImageLists) -> dict[str, ImageFile]:
    """The file of every listed image, by its path.

    Raises:
        DataError: naming those that are missing, and images in the same folders that no list names.
    """
    files = {"/".join(parts): file for parts, file in listing.files.items()}
    listed = {image.path for image in lists.images}
    refuse(
        f"{listing.where}: images that the lists name but that are missing ({len(listed)} are listed)",
        listed - files.keys(),
        "Unpack the archive of images again",
    )
    folders = {path.split("/")[0] for path in listed}
    beside = (path for path in files.keys() - listed if path.split("/")[0] in folders)
    refuse(
        f"{listing.where}: images that no list names",
        filter(is_image, beside),
        "Move them away, or unpack the lists again",
    )
    return {path: files[path] for path in listed}


def _holds(listing: Listing, image_folders: Sequence[str]) -> bool:
    return any((folder,) in listing.folders for folder in image_folders)


def _inside(listing: Listing, image_folders: Sequence[str]) -> Listing | None:
    if _holds(listing, image_folders):
        return listing
    inner = [under for top in listing.tops() if _holds(under := listing.under(top), image_folders)]
    return inner[0] if len(inner) == 1 else None


def _inside_archives(listing: Listing, image_folders: Sequence[str]) -> Listing:
    """The same, with what the uncompressed archives at the top hold; all of it if no such folder is there."""
    archives = [
        list_tar(file.path)
        for parts, file in listing.files.items()
        if len(parts) == 1 and PurePosixPath(parts[0]).suffix.lower() == ".tar" and file.size is None
    ]
    files = {parts: file for archive in archives for parts, file in archive.files.items()}
    folders = listing.folders.union(*(archive.folders for archive in archives))
    both = Listing(where=listing.where, files=files | dict(listing.files), folders=folders)
    return _inside(both, image_folders) or both
