"""Which tasks a server knows: where each one's adapter is, whether it is loaded, and what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from e2vpt.adapters.info import AdapterInfo
from e2vpt.errors import AdapterError, ConfigError, RunError, visible
from e2vpt.multitask.tasks import MultiTask
from e2vpt.serving.logs import LOGGER
from e2vpt.serving.refusals import Refused
from e2vpt.serving.store import Store

_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownTask:
    """A task that is loaded, or that could be.

    Attributes:
        path: its adapter file.
        is_uploaded: whether that file is one of the store.
        info: what the adapter says; None while the task is not loaded.
        reason: why it is not loaded.
    """

    path: Path
    is_uploaded: bool
    info: AdapterInfo | None
    reason: str = ""


def _for_clients(error: Exception, path: Path, called: str) -> str:
    """What is wrong with a file, without where it lies on the server."""
    return str(error).replace(str(path), called)


def name_problem(name: str) -> str:
    """Why a task cannot be called that, or nothing: names become parts of URLs, labels and lines of a log."""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        return f"expected 1 to {_LONGEST_NAME} printable characters"
    if name.startswith(".") or set(name) & set("/\\") or name != name.strip():
        return "expected no / or \\, no dot in front, and no space around it"
    return ""


class Catalogue:
    """The tasks of a server. One thread changes it; any may read.

    Args:
        tasks: what holds those that are loaded.
        store: of uploads; None where there may be none.
        on_load: is told the seconds of every load.
    """

    def __init__(
        self, tasks: MultiTask, store: Store | None, on_load: Callable[[float], None] = lambda _: None
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._on_load = on_load
        self._known: dict[str, KnownTask] = {}

    @property
    def known(self) -> dict[str, KnownTask]:
        """All tasks as they are now."""
        return dict(self._known)

    def get(self, name: str) -> KnownTask:
        """A task.

        Raises:
            Refused: 404, there is none of that name.
        """
        found = self._known.get(name)
        if found is None:
            raise Refused(404, f"There is no task {shown_name(name)!r}. GET /v1/tasks lists them.")
        return found

    def add(self, name: str, path: Path) -> None:
        """A task of an adapter file, loaded.

        Raises:
            ConfigError: a name that cannot be, or that another task has.
            AdapterError: the file cannot be used.
        """
        problem = name_problem(name)
        if problem or name in self._known:
            why = problem or "another one has this name already; give NAME=PATH"
            raise ConfigError(f"A task cannot be called {name!r} ({path}): {why}.")
        self._load(name, path, is_uploaded=False)

    def restore(self) -> list[str]:
        """Load the tasks of the store, in place of those of the same names; returns why some could not be."""
        failed = []
        for name, path in ({} if self._store is None else self._store.paths).items():
            try:
                self._load(name, path, is_uploaded=True)
            except (AdapterError, ConfigError, RunError) as error:
                reason = _for_clients(error, path, "Its file")
                if name in self._known:  # What was uploaded since it may have other classes.
                    self._tasks.remove(name)
                self._known[name] = KnownTask(path=path, is_uploaded=True, info=None, reason=reason)
                failed.append(f"{visible(name)}: {error}")
        return failed

    def load(self, name: str) -> None:
        """Load a known task, or load it again from its file.

        Raises:
            Refused: 404, there is none; 422, its file cannot be used; what was loaded stays.
        """
        known = self.get(name)
        try:
            self._load(name, known.path, is_uploaded=known.is_uploaded)
        except (AdapterError, ConfigError, RunError) as error:
            reason = _for_clients(error, known.path, "Its file")
            raise Refused(422, f"Task {shown_name(name)!r} cannot be loaded. {reason}") from error

    def unload(self, name: str) -> None:
        """Stop serving a task that stays known.

        Raises:
            Refused: 404, there is none.
        """
        known = self.get(name)
        if known.info is not None:
            self._known[name] = replace(known, info=None, reason="unloaded")
            self._tasks.remove(name)

    def put(self, name: str, content: bytes) -> bool:
        """Serve an uploaded adapter under a name, from now on and after a restart; returns whether it is new.

        Raises:
            Refused: 400, no such name can be; 403, there is no store; 422, the file cannot be used; 507, the
                store cannot be written to. What was served stays.
        """
        problem = name_problem(name)
        if problem:
            raise Refused(400, f"A task cannot be called {shown_name(name)!r}: {problem}.")
        store, before = self._need_store(), self._known.get(name)
        with _writing():
            path = store.add(content)
        try:
            self._load(name, path, is_uploaded=True)
        except (AdapterError, ConfigError) as error:
            store.drop_unused(path)
            reason = _for_clients(error, path, "The upload")
            raise Refused(422, f"This adapter cannot be served. {reason}") from error
        try:
            with _writing():
                store.assign(name, path)
        except Refused:
            self._go_back(name, before)
            store.drop_unused(path)
            raise
        return before is None

    def delete(self, name: str) -> None:
        """Forget a task, and its file if that was uploaded; a file named on the command line stays.

        Raises:
            Refused: 404, there is none; 403, there is no store; 507, it cannot be written to, and the task
                is only unloaded.
        """
        self.get(name)
        store = self._need_store()
        self.unload(name)
        with _writing():
            store.remove(name)
        self._known = _without(self._known, name)

    def _load(self, name: str, path: Path, *, is_uploaded: bool) -> None:
        start = perf_counter()
        info = self._tasks.load(name, path)
        self._known[name] = KnownTask(path=path, is_uploaded=is_uploaded, info=info)
        self._on_load(perf_counter() - start)

    def _go_back(self, name: str, before: KnownTask | None) -> None:
        if before is None or before.info is None:
            self._tasks.remove(name)
            self._known = {**self._known, name: before} if before else _without(self._known, name)
        else:
            self._load(name, before.path, is_uploaded=before.is_uploaded)

    def _need_store(self) -> Store:
        if self._store is None:
            raise Refused(
                403, "Tasks cannot be changed: this server has no store. Start it with --store DIR."
            )
        return self._store


@contextmanager
def _writing() -> Iterator[None]:
    """A store that is full or not writable is something that a client may know."""
    try:
        yield
    except RunError as error:
        logging.getLogger(LOGGER).error("store", exc_info=error)
        raise Refused(507, "The store cannot be written to; the server's log says more.") from error


def _without(known: dict[str, KnownTask], name: str) -> dict[str, KnownTask]:
    return {other: task for other, task in known.items() if other != name}


def shown_name(name: str) -> str:
    """A name that a client gave, for a message."""
    text = visible(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."
