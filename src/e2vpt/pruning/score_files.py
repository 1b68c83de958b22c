"""Scores in a file, with what they were computed for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from e2vpt.errors import AdapterFormatError, RunError
from e2vpt.files.container import read_container, write_container
from e2vpt.pruning.scores import Scores

_PARTS = ("tokens", "segments", "key_value")


def save_scores(path: Path, scores: Scores, asked: dict[str, Any]) -> None:
    """Write scores with what they were computed for."""
    tensors = {f"{kind}.{i}": t for kind in _PARTS for i, t in enumerate(getattr(scores, kind))}
    header = {"kind": "scores", "shared": scores.shared, "layout": scores.layout, "asked": asked}
    write_container(path, header, tensors)


def load_scores(path: Path, asked: dict[str, Any]) -> Scores | None:
    """The scores in a file, or None where there is no such file or it was computed for something else.

    `asked` may be a part of what they were stored with.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        header, tensors, _ = read_container(path)
    except AdapterFormatError as error:
        raise RunError(f"{error} It can be computed again: delete it.") from error
    stored = header.get("asked")
    if header.get("kind") != "scores" or not isinstance(stored, dict) or not asked.items() <= stored.items():
        return None
    parts: dict[str, tuple[Tensor, ...]] = {}
    for kind in _PARTS:
        count = sum(name.startswith(f"{kind}.") for name in tensors)
        parts[kind] = tuple(tensors[f"{kind}.{i}"] for i in range(count))
    return Scores(**parts, shared=header["shared"], layout=header["layout"])
