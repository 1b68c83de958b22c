"""Files that are whole or not there: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from e2vpt.errors import E2VPTError, RunError, check_type
from e2vpt.files.paths import look_at

_NOTHING: Mapping[str, type] = {}
_TEMPORARY = re.compile(r"\..{1,50}\.[0-9a-f]{12}\.tmp")


def write_atomic(
    path: str | Path, content: bytes, check: Callable[[Path], object] = lambda temporary: None
) -> None:
    """Replace the file at `path` by `content`; on any failure what was there before stays.

    `check` is given the file while it still has a temporary name beside its place; what it raises is such a
    failure.

    Raises:
        RunError: the folder is missing, not writable or full; names the file and the reason.
    """
    check_type("path", path, str, PathLike)

    def put(temporary: Path, target: Path) -> None:
        check(temporary)
        temporary.replace(target)

    _write(Path(path), content, put)


def copy_atomic(source: Path, path: Path) -> None:
    """Replace the file at `path` by a copy of `source`.

    Raises:
        RunError: `source` cannot be read, or as `write_atomic`.
    """
    try:
        content = source.read_bytes()
    except (OSError, ValueError) as error:
        raise RunError(f"{source} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    write_atomic(path, content)


def create_atomic(path: Path, content: bytes) -> bool:
    """Make a file that is not there yet; False where there is one, of another process that was faster, say.

    Raises:
        RunError: as `write_atomic`.
    """
    try:
        _write(path, content, _put_if_new)
    except FileExistsError:
        return False
    return True


def _put_if_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # exFAT and most network mounts have no hard links: take the name first, then fill it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            temporary.replace(path)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _write(path: Path, content: bytes, put: Callable[[Path, Path], object]) -> None:
    # The name is cut so that the longest names still leave room for the rest.
    temporary = path.parent / f".{path.name[:50]}.{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    except (FileExistsError, E2VPTError):
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


def remove_unfinished(folder: Path) -> None:
    """Remove what writers left behind when they were killed; nobody else may be writing below `folder`."""
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def make_folder(path: Path) -> None:
    """Create a folder, its parents included, unless it is there.

    Raises:
        RunError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise RunError(f"Cannot create {path}: {getattr(error, 'strerror', None) or error}.") from error


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Replace a table at once."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def spreadsheet_text(cell: str) -> str:
    """A text that no spreadsheet takes for a formula: where it begins like one, behind an apostrophe."""
    return "'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def write_json_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace a file of one JSON object a line at once: a killed run leaves no half line."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def read_json_lines(path: Path, needed: Mapping[str, type] = _NOTHING) -> list[dict[str, Any]]:
    """What `write_json_lines` wrote; nothing where there is no file.

    `needed` are fields that every row has, with their types; `float` stands for any number.

    Raises:
        RunError: the file cannot be read, or a row is none of ours.
    """
    if look_at(path) == "nothing":
        return []
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({error}). Restore it, or start in another folder.") from error
    check_rows(path, rows, needed)
    return rows


def check_rows(path: Path, rows: Sequence[Any], needed: Mapping[str, type]) -> None:
    """Hold rows of a file to the fields `needed`, as in `read_json_lines`.

    Raises:
        RunError: a row lacks one, or is no row.
    """
    for row in rows:
        if not isinstance(row, dict):
            raise RunError(f"{path} cannot be used: {row!r:.100} is no row. Restore it.")
        for name, kind in needed.items():
            if not isinstance(row.get(name), (int, float) if kind is float else kind):
                found = f"{row[name]!r:.100} as" if name in row else "no"
                raise RunError(f"{path} cannot be used: a row has {found} {name}. Restore it.")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
