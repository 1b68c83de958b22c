"""One process at a time in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from e2vpt.errors import RunError
from e2vpt.files.atomic import make_folder, remove_unfinished
from e2vpt.training.processes import process_rank

LOCK = ".lock"


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Inside, no other process works in `out`. The system lets go of the lock of a process that dies.

    What such a process was just writing is removed. Of several processes that train together the first one
    holds the lock for all.

    Raises:
        RunError: another process works there, or `out` cannot be written to.
    """
    if process_rank()[0] != 0:
        yield
        return
    make_folder(out)
    try:
        held = FileLock(out / LOCK).acquire(timeout=0)
    except Timeout:
        raise RunError(f"Another process works in {out}. Wait for it, or choose another --out.") from None
    except OSError as error:
        raise RunError(f"Cannot write to {out}: {error.strerror or error}. Choose another --out.") from error
    with held:
        remove_unfinished(out)
        yield
