"""Which tasks there are, by name: their values in memory, or read again from their files."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.adapters.info import AdapterInfo
from e2vpt.errors import AdapterError, ConfigError
from e2vpt.multitask.values import Host, TaskValues, read_values


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A task under its name.

    Attributes:
        path: the adapter file.
        digest: of what it held when the task was loaded.
        info: what it says.
    """

    path: Path
    digest: str
    info: AdapterInfo


class Registry:
    """Tasks by name; the values of at most `limit` stay in memory. Safe to use from several threads."""

    def __init__(self, host: Host, limit: int) -> None:
        self._host = host
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._names_of: Counter[str] = Counter()
        self._values: OrderedDict[str, TaskValues] = OrderedDict()

    @property
    def entries(self) -> dict[str, Entry]:
        """All tasks as they are now."""
        with self._lock:
            return dict(self._entries)

    @property
    def num_in_memory(self) -> int:
        """Tasks whose values are in memory."""
        return len(self._values)

    def load(
        self, name: str, path: Path, check: Callable[[Path, TaskValues], None] = lambda _path, _values: None
    ) -> tuple[Entry, str]:
        """Put the adapter in a file under a name; returns it, and the digest nothing needs now, or "".

        `check` may refuse what the file brings, by an error.

        Raises:
            ConfigError: a name that cannot be.
            As `read_values`.
        """
        if not name or len(name) > 200 or not name.isprintable():
            raise ConfigError(f"A task's name is {name!r}; expected 1 to 200 printable characters.")
        info, values = read_values(path, self._host)
        check(path, values)
        entry = Entry(path=path, digest=values.digest, info=info)
        with self._lock:
            before = self._entries.get(name)
            self._entries[name] = entry
            self._names_of[entry.digest] += 1
            self._keep(values)
            return entry, "" if before is None else self._let_go(before)

    def remove(self, name: str) -> str:
        """Forget a task; returns the digest that nothing needs now, or "".

        Raises:
            ConfigError: there is no such task.
        """
        with self._lock:
            if name not in self._entries:
                raise ConfigError(self._unknown(name))
            return self._let_go(self._entries.pop(name))

    def needs(self, digest: str) -> bool:
        """Whether some task holds what has this digest."""
        return digest in self._names_of

    def values(self, entries: Sequence[Entry]) -> list[TaskValues]:
        """The values of tasks, those not in memory read again.

        Raises:
            AdapterError: a file that holds something else by now.
        """
        with self._lock:
            found = {entry.digest: self._values.get(entry.digest) for entry in entries}
            for digest in found:
                if digest in self._values:
                    self._values.move_to_end(digest)
        for entry in entries:
            if found[entry.digest] is None:
                again = found[entry.digest] = self._read_again(entry)
                with self._lock:
                    if self.needs(entry.digest):
                        self._keep(again)
        return [values for entry in entries if (values := found[entry.digest]) is not None]

    def named(self, names: Sequence[str]) -> list[Entry]:
        """Tasks as they are now, one for each name.

        Raises:
            ConfigError: a name of none.
        """
        with self._lock:
            for name in names:
                if name not in self._entries:
                    raise ConfigError(self._unknown(name))
            return [self._entries[name] for name in names]

    def _unknown(self, name: str) -> str:
        some = ", ".join(sorted(self._entries)[:8]) or "none"
        more = ", ..." if len(self._entries) > 8 else ""
        return f"There is no task {name!r}. Loaded: {some}{more}."

    def _keep(self, values: TaskValues) -> None:
        self._values[values.digest] = values
        self._values.move_to_end(values.digest)
        while len(self._values) > self._limit:
            self._values.popitem(last=False)

    def _let_go(self, before: Entry) -> str:
        self._names_of[before.digest] -= 1
        if self._names_of[before.digest]:
            return ""
        del self._names_of[before.digest]
        self._values.pop(before.digest, None)
        return before.digest

    def _read_again(self, entry: Entry) -> TaskValues:
        _, values = read_values(entry.path, self._host)
        if values.digest != entry.digest:
            raise AdapterError(
                f"{entry.path} was replaced since its task was loaded. Load it again to use the new one."
            )
        return values
