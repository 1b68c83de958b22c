"""Files that are whole or not there: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from e2vpt.errors import RunError, check_type
from e2vpt.files.paths import look_at


def write_atomic(path: str | Path, content: bytes) -> None:
    """Replace the file at `path` by `content`; on any failure what was there before stays.

    Raises:
        RunError: the folder is missing, not writable or full; names the file and the reason.
    """
    check_type("path", path, str, PathLike)
    _write(Path(path), content, Path.replace)


def create_atomic(path: Path, content: bytes) -> bool:
    """Make a file that is not there yet; False where there is one, of another process that was faster, say.

    Raises:
        RunError: as `write_atomic`.
    """
    try:
        _write(path, content, lambda temporary, target: os.link(temporary, target))
    except FileExistsError:
        return False
    return True


def _write(path: Path, content: bytes, put: Callable[[Path, Path], object]) -> None:
    # The name is cut so that the longest names still leave room for the rest.
    temporary = path.parent / f".{path.name[:50]}.{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    except FileExistsError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise RunError(
            f"Could not write {path} ({len(content)} bytes): {getattr(error, 'strerror', None) or error}. "
            "Nothing was changed; free space or choose another folder, then run the same command again."
        ) from error
    finally:  # also when the user interrupts; after a rename there is nothing to remove
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder, its parents included, unless it is there.

    Raises:
        RunError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot create {path}: {error.strerror or error}.") from error


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Replace a table at once."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def write_json_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace a file of one JSON object a line at once: a killed run leaves no half line."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """What `write_json_lines` wrote; nothing where there is no file.

    Raises:
        RunError: the file cannot be read.
    """
    if look_at(path) == "nothing":
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}). Restore it, or start in another folder.") from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
