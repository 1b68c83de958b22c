"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from e2vpt.errors import RunError
from e2vpt.files.atomic import make_folder, remove_unfinished
from e2vpt.training.processes import is_first_process

LOCK = ".lock"


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Inside, no other process works in `out`. The system lets go of the lock of a process that dies.

    What such a process was just writing is removed. Of several processes that train together the first one
    holds the lock for all.

    Raises:
        RunError: another process works there, or `out` cannot be written to.
    """
    if not is_first_process():
        yield
        return
    with locked(out, "--out"):
        remove_unfinished(out)
        yield


@contextmanager
def locked(folder: Path, option: str) -> Iterator[None]:
    """Inside, no other process holds the lock of `folder`, which is created if need be.

    Raises:
        RunError: another process holds it, or `folder` cannot be written to. It names `option`, with which
            the user chose the folder.
    """
    make_folder(folder)
    try:
        held = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"Another process works in {folder}. Wait for it, or choose another {option}."
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"Cannot write to {folder}: {reason}. Choose another {option}.") from error
    with held:
        yield
