"""Image lists, the other form VTAB-1k goes around in: `train800.txt`, `val200.txt`, `test.txt` beside images.

A line is `relative/path label`, the label a number from 0. The images are copies that somebody made; whether
they are lossless, the lists do not say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from e2vpt.benchmarks.vtab.data import VtabData
from e2vpt.benchmarks.vtab.tasks import TRAIN_IMAGES, VAL_IMAGES, VtabTask
from e2vpt.data.images import ImageFile
from e2vpt.data.task import Split
from e2vpt.errors import DataError, in_lines

TRAIN, VAL, BOTH, TEST = "train800.txt", "val200.txt", "train800val200.txt", "test.txt"
_COUNTS = {TRAIN: TRAIN_IMAGES, VAL: VAL_IMAGES, BOTH: TRAIN_IMAGES + VAL_IMAGES}
_FOLDERS = {
    "cifar100": "cifar",
    "clevr_distance": "clevr_dist",
    "kitti_distance": "kitti",
    "dsprites_location": "dsprites_loc",
    "dsprites_orientation": "dsprites_ori",
    "smallnorb_azimuth": "smallnorb_azi",
    "smallnorb_elevation": "smallnorb_ele",
}


def list_folders(task: str) -> tuple[str, ...]:
    """The folders that may hold the lists of a VTAB-1k task: the usual name, then the task's own."""
    return tuple(dict.fromkeys((_FOLDERS.get(task, task), task)))


def find_lists(directory: Path, task: str) -> Path:
    """The folder of a task's lists; the usual one where there is none."""
    folders = [directory / folder for folder in list_folders(task)]
    return next(filter(has_lists, folders), folders[0])


def has_lists(folder: Path) -> bool:
    """Whether any of the lists is in `folder`."""
    return any((folder / name).is_file() for name in (TRAIN, VAL, BOTH, TEST))


def read_image_lists(folder: Path, task: VtabTask) -> VtabData:
    """The images that the lists in `folder` name, in their order, read in place.

    `train800val200.txt` may be absent; where it is there, its labels must be those of the other two together
    (its paths may be copies of their own).

    Raises:
        DataError: a missing list, listing every bad line (no such file, no label of the task), a list of
            another length, or an image in two splits.
    """
    missing = [name for name in (TRAIN, VAL, TEST) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} has no {', no '.join(missing)}. Download the image lists again.")
    splits = {name: _read_list(folder / name, task.num_classes) for name in (TRAIN, VAL, TEST)}
    # An image that is trained on and tested on would flatter every score.
    lists: dict[str, list[str]] = {}
    for name, split in splits.items():
        for image in {image.name for image in split.images}:
            lists.setdefault(image, []).append(name)
    shared = [f"{image}: {', '.join(sorted(names))}" for image, names in lists.items() if len(names) > 1]
    _refuse(folder, "images in more than one list", sorted(shared))
    if (folder / BOTH).is_file():
        both = _read_list(folder / BOTH, task.num_classes)
        if Counter(both.labels) != Counter(splits[TRAIN].labels + splits[VAL].labels):
            raise DataError(
                f"{folder / BOTH} has other labels than {TRAIN} and {VAL} together. "
                "Download the image lists again."
            )
    return VtabData(
        name=task.name,
        source="image lists",
        where=str(folder),
        classes=tuple(map(str, range(task.num_classes))),
        train=splits[TRAIN],
        val=splits[VAL],
        test=splits[TEST],
    )


def _read_list(path: Path, num_classes: int) -> Split:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text in UTF-8: {error}. Download it again.") from error
    images, labels, problems = [], [], []
    for line, text in enumerate(lines, start=1):
        relative, _, label = text.strip().rpartition(" ")
        relative = relative.strip()
        problem = _problem(path.parent, relative, label, num_classes)
        if problem:
            problems.append(f"line {line}: {problem}")
        else:
            where = path.parent / relative
            images.append(ImageFile(name=str(where), path=where))
            labels.append(int(label))
    _refuse(path, f"{len(problems)} bad line(s)", problems)
    expected = _COUNTS.get(path.name, len(images))
    if len(images) != expected or not images:
        wanted = f"{expected}" if expected else "at least one"
        raise DataError(f"{path} names {len(images)} images; expected {wanted}. Download it again.")
    return Split(images=tuple(images), labels=tuple(labels))


def _problem(folder: Path, relative: str, label: str, num_classes: int) -> str | None:
    if not relative:
        return "expected a path, a space and a label"
    if not (label.isascii() and label.isdecimal() and len(label) < 10 and int(label) < num_classes):
        return f"the label is {label!r}; expected 0 to {num_classes - 1}"
    return None if (folder / relative).is_file() else f"no such file: {folder / relative}"


def _refuse(where: Path, what: str, found: Sequence[str]) -> None:
    if found:
        raise DataError(f"{where}: {what}:\n{in_lines(found)}\nDownload the image lists and images again.")
