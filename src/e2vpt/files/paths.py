"""What lies at a path, or an error of ours where the system does not let it be looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from e2vpt.errors import E2VPTError, RunError, visible


def look_at(
    path: Path, error: type[E2VPTError] = RunError
) -> Literal["file", "folder", "something else", "nothing"]:
    """What lies at a path, links followed.

    Raises:
        RunError, or the `error` given: it cannot be looked at: no permission, a name that is too long.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except (OSError, ValueError) as why:  # ValueError: a NUL in the path
        raise error(f"Cannot look at {_shown(path)}: {getattr(why, 'strerror', None) or why}.") from why
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "something else"


def listed(folder: Path, error: type[E2VPTError] = RunError) -> list[Path]:
    """What lies in a folder, sorted.

    Raises:
        RunError, or the `error` given: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError) as why:
        raise error(f"Cannot list {_shown(folder)}: {getattr(why, 'strerror', None) or why}.") from why


def check_folder_place(folder: Path) -> None:
    """Refuse a folder, there or not yet, in which nothing could be written: before anything slow begins.

    Raises:
        RunError: the nearest folder there is may not be written to.
    """
    there = next(place for place in (folder, *folder.parents) if look_at(place) != "nothing")
    _check_takes_files(there, folder)


def check_file_place(path: Path, read: Iterable[Path] = ()) -> None:
    """Refuse a file, there or not yet, that cannot or should not be written: before anything slow begins.

    Raises:
        RunError: it is a folder, one of the files that are to be read, or the folder it is to lie in is not
            there or may not be written to.
    """
    kind = look_at(path)
    if kind == "folder":
        raise RunError(f"Cannot write {_shown(path)}: it is a folder. Name a file.")
    if kind == "file" and any(look_at(other) == "file" and path.samefile(other) for other in read):
        raise RunError(f"Cannot write {_shown(path)}: it is read for this. Name another file.")
    _check_takes_files(path.parent, path)


def _check_takes_files(folder: Path, wanted: Path) -> None:
    if look_at(folder) != "folder" or not os.access(folder, os.W_OK | os.X_OK):
        where = _shown(folder.absolute())
        raise RunError(f"Cannot write to {_shown(wanted)}: {where} is no folder that may be written to.")


def _shown(path: Path, limit: int = 300) -> str:
    text = visible(str(path))
    return text if len(text) <= limit else f"{text[:limit]}..."
