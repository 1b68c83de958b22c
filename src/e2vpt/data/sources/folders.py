"""Class folders, in a folder or in an archive: `train/cat/1.jpg`, or `cat/1.jpg` to be split here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from e2vpt.data.decoding.formats import is_image
from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.sources.archives import list_archive
from e2vpt.data.sources.listing import Listing, Parts, list_folder, refuse
from e2vpt.data.sources.splits import LabelledData, SplitName, one_spelling, split_meant, split_name
from e2vpt.errors import DataError, visible

Found = dict[SplitName | Literal["all"], dict[str, list[ImageFile]]]
"""The images of each class, by split."""


def read_folder(path: Path, known: Collection[str] = ()) -> LabelledData:
    """The labelled images in a folder of class folders, or of `train/`, `val/`, `test/` folders of them.

    Classes are in sorted order of their names. Without `val/` (or `valid/`, `validation/`) it is split off
    `train/` for training; without `test/` there is none. Without any of them both are split off. Images may
    lie in subfolders of a class. Hidden and system files are ignored, and so is everything but images beside
    the class folders. `known` are names of classes.

    Raises:
        DataError: images beside the class folders, other files inside them, an empty class, or a class
            folder of `val/` or `test/` that `train/` does not have.
    """
    return _read(path.resolve().name, list_folder(path), known)


def read_archive(path: Path, known: Collection[str] = ()) -> LabelledData:
    """The same from a .tar, .tar.gz or .zip, which may hold it all in one top folder; see `list_archive`.

    Raises:
        DataError: as for `read_folder`, and for a truncated or damaged archive.
    """
    return _read(path.stem.removesuffix(".tar"), list_archive(path), known)


def _read(name: str, listing: Listing, known: Collection[str]) -> LabelledData:
    listing = _inside_single_top(listing, known)
    named = _split_folders(listing) or _meant_as_splits(listing)
    if not named:
        classes = _read_classes(listing)
        return _labelled(name, list(classes), {"all": classes})
    found: Found = {which: _read_classes(_inside_itself(listing, folder)) for which, folder in named.items()}
    # Without training images, all classes there are, each once.
    everywhere = dict.fromkeys(name for split in found.values() for name in split)
    return _labelled(name, list(found.get("train", everywhere)), found)


def _labelled(name: str, classes: list[str], found: Found) -> LabelledData:
    return LabelledData(
        name=name,
        classes=tuple(classes),
        found={
            which: [(image, name) for name, images in split.items() for image in images]
            for which, split in found.items()
        },
        empty=tuple(
            repr(name if which == "all" else f"{which}/{name}")
            for which, split in found.items()
            for name, images in split.items()
            if not images
        ),
    )


def _inside_single_top(listing: Listing, known: Collection[str]) -> Listing:
    """Step into `pets/` where that is all there is, it holds folders itself and is no class that is known."""
    tops = listing.tops()
    while len(tops) == 1 and split_name(tops[0]) is None and listing.under(tops[0]).folders:
        if one_spelling(tops[0]) in known:
            break
        _refuse_loose_images(listing)
        listing = listing.under(tops[0])
        tops = listing.tops()
    return listing


def _split_folders(listing: Listing) -> dict[SplitName, str]:
    """The folder of each split that exists; empty if the top folders are classes."""
    named: dict[SplitName, str] = {}
    others = []
    for top in listing.tops():
        which = split_name(top)
        if which is None:
            others.append(top)
        elif which in named:
            raise DataError(f"{listing.where} has both {named[which]}/ and {top}/. Keep one of them.")
        else:
            named[which] = top
    if named and any(split_meant(top) and listing.under(top).images() for top in others):
        return _meant_as_splits(listing)
    _refuse_loose_images(listing)
    if named:
        beside = [name for name in others if listing.under(name).images()]
        refuse(
            f"{listing.where}: folders with images beside {next(iter(named.values()))}/",
            beside,
            "Move them into a split, or away",
        )
    return named


def _meant_as_splits(listing: Listing) -> dict[SplitName, str]:
    """Training/ and Testing/ (seg_train/, test_images/, ...) where they hold the same class folders.

    Raises:
        DataError: folders that are named like splits but cannot be read as such without doubt.
    """
    meant = {top: which for top in listing.tops() if (which := split_meant(top))}
    if not meant:
        return {}
    with_images = {parts[0] for parts in listing.images()}
    inner: dict[str, set[str]] = {}
    for parts in listing.folders:
        if len(parts) == 2 and parts[0] in with_images:
            inner.setdefault(parts[0], set()).add(parts[1])
    classes = {top: set(_inside_itself(listing, top).tops()) for top in meant if top in inner}
    others = with_images - classes.keys()
    in_classes = set[str]().union(*classes.values())
    if not classes or (len(classes) == 1 and not any(in_classes & inner.get(top, set()) for top in others)):
        return {}  # One class of many may well be called train_station/ and have folders.
    named = {meant[top]: top for top in classes}
    fits = "train" in named and len(named) == len(classes) > 1 and not others
    if fits and all(classes[top] <= classes[named["train"]] for top in classes):
        return named
    reading = ", ".join(f"{visible(top)}/ as {meant[top]}/" for top in sorted(classes))
    raise DataError(
        f"{listing.where}: folders are named like splits ({reading}), but not all of it can be read so. "
        "Rename them to train/, val/ and test/, and move other images away; rename classes of such names."
    )


def _inside_itself(listing: Listing, top: str) -> Listing:
    """What lies in `seg_train/`, or in `seg_train/seg_train/` where that is all there is."""
    inner = listing.under(top)
    return inner.under(top) if inner.tops() == [top] and inner.under(top).folders else inner


def _refuse_splits_in_classes(listing: Listing) -> None:
    below: dict[Parts, set[str]] = {}
    for parts in listing.folders:
        if len(parts) > 1 and split_meant(parts[-1]):
            below.setdefault(parts[:-1], set()).add(parts[-1])
    refuse(
        f"{listing.where}: splits inside of classes",
        [
            f"{'/'.join(parts)}/ with {'/, '.join(sorted(names))}/"
            for parts, names in below.items()
            if len({split_meant(name) for name in names}) > 1
        ],
        "Turn class/train/ into train/class/, and so on",
    )


def _read_classes(listing: Listing) -> dict[str, list[ImageFile]]:
    """The images of each class folder, by class in sorted order."""
    _refuse_loose_images(listing)
    _refuse_splits_in_classes(listing)
    strays = [
        file.name for parts, file in listing.files.items() if len(parts) > 1 and not is_image(parts[-1])
    ]
    refuse(f"{listing.where}: files in class folders that are not images", strays, "Move them away")
    name_of = {folder: _class_name(listing.where, folder) for folder in listing.tops()}
    classes: dict[str, list[ImageFile]] = {name: [] for name in sorted(name_of.values())}
    if len(classes) < len(name_of):
        twice = [name for name, count in Counter(name_of.values()).items() if count > 1]
        refuse(
            f"{listing.where}: class folders that only differ in how an accent is stored", twice, "Merge them"
        )
    for parts in sorted(parts for parts in listing.files if len(parts) > 1):
        classes[name_of[parts[0]]].append(listing.files[parts])
    return classes


def _class_name(where: str, folder: str) -> str:
    """One spelling whatever the file system: macOS stores accents apart from their letters."""
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: the folder name {folder!r} is not valid UTF-8. Rename it.") from error
    return one_spelling(folder)


def _refuse_loose_images(listing: Listing) -> None:
    loose = (file.name for parts, file in listing.images().items() if len(parts) == 1)
    refuse(
        f"{listing.where}: images outside of any class folder",
        loose,
        "Move each into the folder of its class",
    )
