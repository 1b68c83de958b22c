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
from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.task import Split, Task
from e2vpt.errors import DataError, in_lines, visible
from e2vpt.files.paths import look_at

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
    return any(_is_file(folder / name) for name in (TRAIN, VAL, BOTH, TEST))


def read_image_lists(folder: Path, task: VtabTask) -> VtabData:
    """The images that the lists in `folder` name, in their order, read in place.

    `train800val200.txt` may be absent; where it is there, its labels must be those of the other two together
    (its paths may be copies of their own).

    Raises:
        DataError: a missing list, listing every bad line (no such file, no label of the task), a list of
            another length, or an image in two splits.
    """
    where = visible(str(folder))
    missing = [name for name in (TRAIN, VAL, TEST) if not _is_file(folder / name)]
    if missing:
        raise DataError(f"{where} has no {', no '.join(missing)}. Download the image lists again.")
    train, val, test = (_read_list(folder / name, task.num_classes) for name in (TRAIN, VAL, TEST))
    # An image that is trained on and tested on would flatter every score.
    named = Counter(name for split in (train, val, test) for name in {image.name for image in split.images})
    _refuse(where, "images in more than one list", sorted(name for name, count in named.items() if count > 1))
    if _is_file(folder / BOTH):
        both = _read_list(folder / BOTH, task.num_classes)
        if Counter(both.labels) != Counter(train.labels + val.labels):
            raise DataError(
                f"{visible(str(folder / BOTH))} has other labels than {TRAIN} and {VAL} together. "
                "Download the image lists again."
            )
    classes = tuple(map(str, range(task.num_classes)))
    made = Task(name=task.name, classes=classes, train=train, val=val, test=test, complete=False)
    return VtabData(task=made, source="image lists", where=where)


def _read_list(path: Path, num_classes: int) -> Split:
    where = visible(str(path))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where} cannot be read as text in UTF-8: {error}. Download it again.") from error
    images, labels, problems = [], [], []
    for line, text in enumerate(lines, start=1):
        relative, _, label = text.strip().rpartition(" ")
        image = path.parent / relative.strip()
        problem = _problem(image, relative, label, num_classes)
        if problem:
            problems.append(f"line {line}: {problem}")
        else:
            images.append(ImageFile(name=visible(str(image)), path=image))
            labels.append(int(label))
    _refuse(where, f"{len(problems)} bad line(s)", problems)
    expected = _COUNTS.get(path.name)
    if len(images) != (expected or len(images)) or not images:
        raise DataError(
            f"{where} names {len(images)} images; expected {expected or 'at least one'}. Download it again."
        )
    return Split(images=tuple(images), labels=tuple(labels))


def _problem(image: Path, relative: str, label: str, num_classes: int) -> str:
    """What is wrong with a line, or nothing."""
    if not relative.strip():
        return "expected a path, a space and a label"
    if not (label.isascii() and label.isdecimal() and len(label) < 10 and int(label) < num_classes):
        return f"the label is {label[:80]!r}; expected 0 to {num_classes - 1}"
    try:
        return "" if _is_file(image) else f"no such file: {image}"
    except DataError as error:  # A name that is too long, a folder without permission.
        return str(error)


def _is_file(path: Path) -> bool:
    return look_at(path, DataError) == "file"


def _refuse(where: str, what: str, found: Sequence[str]) -> None:
    if found:
        raise DataError(f"{where}: {what}:\n{in_lines(found)}\nDownload the image lists and images again.")
