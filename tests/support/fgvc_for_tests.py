"""Small instances of the five fine-grained data sets, in the layouts of their official archives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from e2vpt.benchmarks.fgvc.read import FgvcName
from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.task import Task

# Of each class so many images train and so many test, unless a data set says otherwise.
TRAIN, TEST = 10, 2
DOGS = ("n02085620-Chihuahua", "n02085936-Maltese_dog", "n02098105-soft-coated_wheaten_terrier")
CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Acura TL Sedan 2012")
# 0 and 1 are inner nodes of the tree; 295 and 296 have one name.
NABIRDS = {
    0: "Birds",
    1: "Ducks, Geese, and Swans",
    295: "Snow Goose",
    296: "Snow Goose",
    817: "Oak Titmouse",
}
Write = Callable[[Path], dict[str, bytes]]
BIRDS = ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")


def image_bytes(number: int) -> bytes:
    """A JPEG image unlike that of any other number up to 65,535."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 60)).save(
        file, "JPEG", comment=str(number).encode()
    )
    return file.getvalue()


def stored_bytes(image: object) -> bytes:
    """What an image of a task reads, before decoding."""
    assert isinstance(image, ImageFile)
    with image.path.open("rb") as file:
        file.seek(image.offset)
        return file.read(-1 if image.size is None else image.size)


def write_cub(root: Path) -> dict[str, bytes]:
    """Three classes of numbered images."""
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
    rows = [
        (f"{place * (TRAIN + TEST) + i + 1}", f"{name}/{name[4:]}_{i:04d}_{i * 7}.jpg", place + 1, i < TRAIN)
        for place, name in enumerate(names)
        for i in range(TRAIN + TEST)
    ]
    return _write_birds(root, rows, dict(enumerate(names, start=1)))


def write_nabirds(root: Path) -> dict[str, bytes]:
    """Three classes whose numbers have gaps, of five nodes; ids have dashes, file names have none."""
    rows = []
    for place, class_id in enumerate((295, 296, 817)):
        for i in range(TRAIN + TEST):
            number = f"{place:04x}{i:04x}"
            id = f"{number}-21dc-4d0c-bfe1-4cae3c85c829"
            rows.append((id, f"{class_id:04d}/{id.replace('-', '')}.jpg", class_id, i < TRAIN))
    written = _write_birds(root, rows, NABIRDS)
    (root / "hierarchy.txt").write_text("1 0\n295 1\n296 1\n817 0\n")
    return written


def write_flowers(root: Path) -> dict[str, bytes]:
    """Classes 1, 2 and 102; of the images of each, by turns, one trains, one validates and two test."""
    labels = [(1, 2, 102)[i % 3] for i in range(24)]
    written = write_images(root, [f"jpg/image_{i:05d}.jpg" for i in range(1, 25)])
    numbers = np.arange(1, 25)
    turn = (numbers - 1) // 3 % 4
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], np.uint8)}, do_compression=True)
    savemat(
        root / "setid.mat",
        {"trnid": numbers[turn == 0], "valid": numbers[turn == 1], "tstid": numbers[turn > 1]},
        oned_as="row",
    )
    return written


def write_dogs(root: Path, images: Path | None = None) -> dict[str, bytes]:
    """Three breeds, the lists beside `Images/` (in `images`, if given)."""
    lists: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label, folder in enumerate(DOGS, start=1):
        for i in range(TRAIN + TEST):
            path = f"{folder}/{folder.partition('-')[0]}_{i * 13}.jpg"
            lists["train" if i < TRAIN else "test"].append((path, label))
    root.mkdir(parents=True, exist_ok=True)
    for split, rows in lists.items():
        write_dog_list(root / f"{split}_list.mat", *zip(*rows, strict=True))
    every = [path for rows in lists.values() for path, _ in rows]
    return write_images(images or root, [f"Images/{path}" for path in every])


def write_dog_list(file: Path, paths: Sequence[str], labels: Sequence[int]) -> None:
    """A list as in lists.tar: columns of cells, of labels as double."""
    column = np.array([labels], np.float64).T
    savemat(
        file,
        {"file_list": cells(paths), "annotation_list": cells(paths), "labels": column},
        do_compression=True,
    )


def write_cars(root: Path) -> dict[str, bytes]:
    """Three models in `cars_train/`, `cars_test/` and `devkit/`, the test labels beside them."""
    train = [(f"{i + 1:05d}.jpg", i % 3 + 1) for i in range(3 * TRAIN)]
    test = [(f"{i + 1:05d}.jpg", i % 3 + 1) for i in range(3 * TEST)]
    (root / "devkit").mkdir(parents=True, exist_ok=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": cells(CARS).T})
    write_car_annotations(root / "devkit" / "cars_train_annos.mat", train)
    write_car_annotations(root / "cars_test_annos_withlabels.mat", test)
    paths = [f"cars_train/{name}" for name, _ in train] + [f"cars_test/{name}" for name, _ in test]
    return write_images(root, paths)


def write_car_annotations(file: Path, rows: Sequence[tuple[str, int]]) -> None:
    """A 1 x N structure array `annotations` with a box, a class and a file name each."""
    annotations = np.zeros((1, len(rows)), dtype=[("bbox_x1", object), ("class", object), ("fname", object)])
    for i, (name, label) in enumerate(rows):
        annotations[0, i] = (np.uint16(39), np.uint8(label), name)
    savemat(file, {"annotations": annotations})


def write_cars_older(root: Path) -> dict[str, bytes]:
    """Three models in `car_ims/` with `cars_annos.mat`: the test images last, as there."""
    fields = [(name, object) for name in ("relative_im_path", "bbox_x1", "class", "test")]
    annotations = np.zeros((1, 3 * (TRAIN + TEST)), dtype=fields)
    for i in range(annotations.size):
        path = f"car_ims/{i + 1:06d}.jpg"
        annotations[0, i] = (path, np.uint8(30), np.uint8(i % 3 + 1), np.uint8(i >= 3 * TRAIN))
    root.mkdir(parents=True, exist_ok=True)
    savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": cells(CARS).T})
    return write_images(root, [entry["relative_im_path"] for entry in annotations[0]])


def write_vpt_json(root: Path, splits: Mapping[str, Mapping[str, int]]) -> None:
    """VPT's split files."""
    for split, numbers in splits.items():
        (root / f"{split}.json").write_text(json.dumps(numbers))


def write_images(root: Path, paths: Sequence[str]) -> dict[str, bytes]:
    """An image at each path; returns their bytes by path."""
    written = {}
    for number, path in enumerate(paths):
        written[path] = image_bytes(number)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(written[path])
    return written


def cells(texts: Sequence[str]) -> np.ndarray:
    """A column of cells."""
    column = np.empty((len(texts), 1), dtype=object)
    column[:, 0] = list(texts)
    return column


def sizes(task: Task) -> dict[str, int]:
    """How many images each split has."""
    return {name: len(split) for name, split in task.splits().items()}


def _write_birds(
    root: Path, rows: Sequence[tuple[str, str, int, bool]], classes: Mapping[int, str]
) -> dict[str, bytes]:
    root.mkdir(parents=True, exist_ok=True)
    lines = {
        "images.txt": [f"{id} {path}" for id, path, _, _ in rows],
        # Lines need not be in the order of images.txt.
        "image_class_labels.txt": [f"{id} {label}" for id, _, label, _ in reversed(rows)],
        "train_test_split.txt": [f"{id} {int(trains)}" for id, _, _, trains in rows],
        "classes.txt": [f"{number} {name}" for number, name in classes.items()],
    }
    for name, content in lines.items():
        (root / name).write_text("\n".join(content) + "\n")
    return write_images(root, [f"images/{path}" for _, path, _, _ in rows])


def vpt_files(written: dict[str, bytes], below: str) -> dict[str, dict[str, int]]:
    """Of every 12 images the first train, then 4 validate and the last 2 test; classes number from 0."""
    files: dict[str, dict[str, int]] = {"train": {}, "val": {}, "test": {}}
    for i, path in enumerate(written):
        split = "train" if i % 12 < 6 else "val" if i % 12 < 10 else "test"
        files[split][path.removeprefix(below)] = i // 12
    return files


LAYOUTS: list[tuple[FgvcName, Write, tuple[str, ...], dict[str, int]]] = [
    ("cub-200-2011", write_cub, BIRDS, {"train": 27, "val": 3, "test": 6}),
    (
        "nabirds",
        write_nabirds,
        ("Snow Goose (295)", "Snow Goose (296)", "Oak Titmouse"),
        {"train": 27, "val": 3, "test": 6},
    ),
    (
        "oxford-flowers",
        write_flowers,
        ("pink primrose", "hard-leaved pocket orchid", "blackberry lily"),
        {"train": 6, "val": 6, "test": 12},
    ),
    (
        "stanford-dogs",
        write_dogs,
        ("Chihuahua", "Maltese dog", "soft-coated wheaten terrier"),
        {"train": 27, "val": 3, "test": 6},
    ),
    ("stanford-cars", write_cars, CARS, {"train": 27, "val": 3, "test": 6}),
    ("stanford-cars", write_cars_older, CARS, {"train": 27, "val": 3, "test": 6}),
]
each_layout = pytest.mark.parametrize(("name", "write", "classes", "counts"), LAYOUTS)
