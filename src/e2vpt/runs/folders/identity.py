"""What a run is: settings that change its result, weights and images. Resuming holds it to that."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from e2vpt.data import ImageSource, Task
from e2vpt.data.decoding.images import content_digest
from e2vpt.errors import RunError
from e2vpt.files.atomic import write_csv

ImageRow = dict[str, str]
"""An image of a run: split, class, file, digest (of its content)."""

SPLITS = "splits.csv"
COLUMNS = ("split", "class", "file", "digest")
_WITHOUT_EFFECT = {"source", "weights", "workers", "skip_unreadable", "e2vpt", "begun"}
"""Where images and weights lie, who loads them and which are taken (what they are is held by digests); the
version and the date of the start."""


def image_rows(task: Task) -> list[ImageRow]:
    """Every image of a task with its split, class and content, in the order of the task."""
    entries = [
        (name, task.classes[label], image)
        for name, split in task.splits().items()
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    return [
        {"split": split, "class": label, "file": image.name, "digest": digest}
        for (split, label, image), digest in zip(
            entries, digests([image for *_, image in entries]), strict=True
        )
    ]


def digests(images: Sequence[ImageSource]) -> list[str]:
    """The hash of each image's content."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(content_digest, images))


def changed_settings(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Settings that differ and change the result, as `image_size 96, now 64`; only those both sides know."""
    before, now = _flat(saved), _flat(asked)
    names = sorted((before.keys() & now.keys()) - _WITHOUT_EFFECT)
    return [_change(name, before[name], now[name]) for name in names if before[name] != now[name]]


def _change(name: str, before: Any, now: Any) -> str:
    if name == "fingerprint":  # of the backbone's weights, too long to read
        return f"weights with fingerprint {str(before)[:12]}, now {str(now)[:12]}"
    return f"{name} {before}, now {now}"


def changed_images(saved: Sequence[ImageRow], now: Sequence[ImageRow]) -> str:
    """How the images differ, in words; "" where they are the same, in the same order."""
    if [_what(row) for row in saved] == [_what(row) for row in now]:
        return ""
    before, after = {_place(row): row for row in saved}, {_place(row): row for row in now}
    gone = [row for place, row in before.items() if place not in after]
    new = [row for place, row in after.items() if place not in before]
    other = [row for place, row in after.items() if place in before and before[place] != row]
    parts = [
        f"{len(rows)} {word} ({rows[0]['file']}{', ...' if len(rows) > 1 else ''})"
        for rows, word in ((other, "replaced"), (gone, "gone"), (new, "new"))
        if rows
    ]
    return f"images: {', '.join(parts) or 'in another order'}"


def _what(row: ImageRow) -> tuple[str, str, str]:
    return row["split"], row["class"], row["digest"]


def _place(row: ImageRow) -> tuple[str, str, str]:
    return row["split"], row["class"], row["file"]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, out of their groups."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= value if isinstance(value, dict) else {name: value}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def saved_images(run: Path) -> list[ImageRow]:
    """The images of a run.

    Raises:
        RunError: their table is missing, or cannot be read.
    """
    try:
        with (run / SPLITS).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"expected the columns {', '.join(COLUMNS)}")
            return list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{run / SPLITS} cannot be read ({error}). Restore it, or start a new run.") from error


def hold_images(out: Path, rows: Sequence[ImageRow]) -> None:
    """Write which images a run has, or check that they are those it began with.

    Raises:
        RunError: they are others.
    """
    path = out / SPLITS
    if path.exists():
        changes = changed_images(saved_images(out), rows)
        if changes:
            raise RunError(f"{out} was made with other {changes}. Restore them, or choose another --out.")
        return
    write_csv(path, rows, COLUMNS)
