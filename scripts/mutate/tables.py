"""CSV files: read as a task, against the csv module's own reading of the same file."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from pathlib import Path
from random import Random

import e2vpt
from scripts.mutate.table_files import MAKERS, rows_of
from scripts.mutate.watch import Case, Make, read_task


def prepare(folder: Path) -> Make:
    """Cases of one CSV file each beside some pictures, read as `e2vpt train` reads it."""
    folder.mkdir(exist_ok=True)

    def make(random: Random, place: Path) -> Case:
        header, rows = rows_of(random, place)
        maker = random.choice(MAKERS)
        path = place / random.choice(["t.csv", "t.csv", "t.CSV"])
        path.write_bytes(maker(header, rows, random, place))
        trains = random.random() < 0.05

        def run() -> e2vpt.Task:
            return read_task(path, place / "run" if trains else None)

        name = (maker.__doc__ or "").splitlines()[0] + (" trained on" if trains else "")
        return Case(
            name=name,
            run=run,
            check=lambda task: _wrong(path, task),
            mentions=(path.name, "t: ", "unreadable image"),
        )

    return make


def _wrong(path: Path, task: e2vpt.Task) -> str:
    wanted, classes, splits_given = _read(path)
    found = Counter(
        (which if splits_given else "", task.classes[label], image.read())  # type: ignore[attr-defined]
        for which, split in task.splits().items()
        for image, label in zip(split.images, split.labels, strict=True)
    )
    if splits_given and not any(which == "val" for which, *_ in wanted):
        found = Counter({("train" if w == "val" else w, c, d): 0 for w, c, d in found}) + Counter(
            ("train" if w == "val" else w, c, d) for w, c, d in found.elements()
        )
    if found != wanted:
        return (
            f"{sum(found.values())} images, csv has {sum(wanted.values())}; other: {[*(found - wanted)][:2]}"
        )
    return "" if list(task.classes) == classes else f"classes {task.classes}, csv has {classes}"


def _read(path: Path) -> tuple[Counter[tuple[str, str, bytes]], list[str], bool]:
    content = path.read_bytes()
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    head, _, rest = text.partition("\n")
    if head.lower().startswith("sep="):
        mark, text = head[4], rest
    else:
        # The mark that divides the first line into the columns a table must have.
        parts = {mark: [part.strip(' "\r').lower() for part in head.split(mark)] for mark in ",;\t"}
        mark = next((mark for mark, names in parts.items() if {"path", "label"} <= {*names}), ",")
    lines = [
        row
        for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, delimiter=mark)
        if any(map(str.strip, row))
    ]
    names = [name.strip().lower() for name in lines[0]]
    used = [name for name in names if name in ("path", "label", "split", "class")]
    assert len(set(used)) == len(used), f"read a file with two columns of one name: {used}"
    found: Counter[tuple[str, str, bytes]] = Counter()
    name_of = {}
    meaning = {"training": "train", "valid": "val", "validation": "val", "train_images": "train"}
    for row in lines[1:]:
        assert len(row) <= len(names), "read a row of too many cells"
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        label = unicodedata.normalize("NFC", cells["label"])
        name_of[label] = unicodedata.normalize("NFC", cells.get("class", cells["label"]))
        split = cells.get("split", "").lower()
        found[(meaning.get(split, split), name_of[label], (path.parent / cells["path"]).read_bytes())] += 1
    numbers = all(label.isdecimal() for label in name_of)
    order = sorted(name_of, key=lambda label: (int(label) if numbers else 0, label))
    return found, [name_of[label] for label in order], "split" in names
