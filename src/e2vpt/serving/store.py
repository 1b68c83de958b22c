"""Uploaded adapters on disk: files named by their content, and an index of which task is which."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from e2vpt.errors import RunError
from e2vpt.files.atomic import create_atomic, make_folder, write_atomic
from e2vpt.files.paths import check_folder_place, look_at

_INDEX = "tasks.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Store:
    """A folder of adapter files. A file is never written over: other content has another name.

    Raises:
        RunError: the folder cannot be written to, or its index cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        check_folder_place(folder)
        make_folder(folder)
        self._folder = folder
        self._digests = self._read_index()

    @property
    def paths(self) -> dict[str, Path]:
        """The adapter file of every task, by the task's name."""
        return {name: self._path(digest) for name, digest in self._digests.items()}

    def add(self, content: bytes) -> Path:
        """The file with this content, of no task yet.

        Raises:
            RunError: it cannot be written.
        """
        path = self._path(hashlib.sha256(content).hexdigest())
        # A file of this name that holds something else was damaged since; this is how to mend it.
        if not create_atomic(path, content) and not _holds(path, content):
            write_atomic(path, content)
        return path

    def assign(self, name: str, path: Path) -> None:
        """Make a file of `add` a task's; the one it had before goes, unless another task has it.

        Raises:
            RunError: the index cannot be written; everything stays as it was.
        """
        self._write({**self._digests, name: path.stem})

    def remove(self, name: str) -> None:
        """Forget a task, if it is one of this store.

        Raises:
            RunError: the index cannot be written; everything stays as it was.
        """
        if name in self._digests:
            self._write({other: digest for other, digest in self._digests.items() if other != name})

    def drop_unused(self, path: Path) -> None:
        """Delete a file of `add` that no task has."""
        if path.stem not in self._digests.values():
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.safetensors"

    def _write(self, digests: Mapping[str, str]) -> None:
        # The index first: a file without a task is a waste, a task without a file is a loss.
        write_atomic(self._folder / _INDEX, json.dumps(digests, indent=1).encode())
        before, self._digests = self._digests, dict(digests)
        for digest in set(before.values()) - set(digests.values()):
            self.drop_unused(self._path(digest))

    def _read_index(self) -> dict[str, str]:
        path = self._folder / _INDEX
        if look_at(path) == "nothing":
            return {}
        try:
            found: dict[str, str] = json.loads(path.read_bytes())
            fits = isinstance(found, dict) and all(map(_DIGEST.fullmatch, found.values()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise RunError(
                f"{path} cannot be read ({error}). Restore it, or choose another --store."
            ) from error
        if not fits:
            raise RunError(f"{path} is no index of e2vpt serve. Restore it, or choose another --store.")
        return found


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
