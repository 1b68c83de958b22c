"""Images that lie in a task more than once where they should not: in two classes, or in two splits."""

from __future__ import annotations

from collections import defaultdict

from e2vpt.data.decoding.images import ImageFile, content_digest
from e2vpt.data.task import Task
from e2vpt.errors import UnreadableImages

_Place = tuple[str, str, str]
"""Name, split and class of an image."""


def repeated_images(task: Task) -> list[str]:
    """A line for each file whose very bytes are there again under another class or in another split.

    Only files of the same size are read. Images that cannot be read are left out.
    """
    by_size: defaultdict[int, list[tuple[ImageFile, _Place]]] = defaultdict(list)
    for split, part in task.splits().items():
        for image, label in zip(part.images, part.labels, strict=True):
            size = _size(image) if isinstance(image, ImageFile) else None
            if isinstance(image, ImageFile) and size is not None:
                by_size[size].append((image, (image.name, split, task.classes[label])))
    by_content: defaultdict[str, list[_Place]] = defaultdict(list)
    for alike in by_size.values():
        for image, place in alike if len(alike) > 1 else []:
            try:
                by_content[content_digest(image)].append(place)
            except UnreadableImages:
                continue
    groups = (places for places in by_content.values() if len({place[1:] for place in places}) > 1)
    return [" = ".join(f"{name} ({split}, {label})" for name, split, label in places) for places in groups]


def _size(image: ImageFile) -> int | None:
    try:
        size = image.size if image.inflated is None else image.inflated
        return image.path.stat().st_size if size is None else size
    except (OSError, ValueError):
        return None
