"""What lies in a folder or an uncompressed .tar: paths relative to it, and how to read each file in place."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from e2vpt.data.decoding.formats import is_image
from e2vpt.data.decoding.images import ImageFile
from e2vpt.errors import DataError, in_lines, visible

Parts = tuple[str, ...]
_SYSTEM_NAMES = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})
_TAR_BLOCK = 512
_LONGEST_TAR_HEADER = 2**20
_MOST_WAYS = 64
"""How many paths may lead to one folder. Links that branch at every level would make millions of paths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Files and folders, hidden and system ones left out, by their path's parts below `where`."""

    where: str
    files: Mapping[Parts, ImageFile]
    folders: frozenset[Parts]

    def tops(self) -> list[str]:
        """Names of the folders at the top, sorted."""
        return sorted(parts[0] for parts in self.folders if len(parts) == 1)

    def images(self) -> dict[Parts, ImageFile]:
        """The files that count as images, in sorted order."""
        return {parts: self.files[parts] for parts in sorted(self.files) if is_image(parts[-1])}

    def under(self, top: str) -> Listing:
        """What lies below one of `tops()`."""
        return Listing(
            where=f"{self.where}/{top}",
            files={
                parts[1:]: file for parts, file in self.files.items() if parts[0] == top and len(parts) > 1
            },
            folders=frozenset(parts[1:] for parts in self.folders if parts[0] == top and len(parts) > 1),
        )


def list_folder(root: Path) -> Listing:
    """Everything below a folder, links followed, loops of links cut.

    Raises:
        DataError: a folder that cannot be read, or that very many paths lead to.
    """
    files: dict[Parts, ImageFile] = {}
    folders: set[Parts] = set()
    for parts, path, is_folder in _walk(root):
        if is_folder:
            folders.add(parts)
        else:
            files[parts] = ImageFile(name=visible(str(path)), path=path)
    return Listing(where=visible(str(root)), files=files, folders=frozenset(folders))


def list_tar(archive: Path, called: Path | None = None) -> Listing:
    """Everything in an uncompressed .tar; of a path stored twice the later one counts, as for tar itself.

    `called` is the file that messages name, where this one is a temporary copy.

    Raises:
        DataError: compressed, truncated or damaged, or with entries that cannot be read in place.
    """
    files: dict[Parts, ImageFile] = {}
    folders: set[Parts] = set()
    called = called or archive
    for member in _members(archive, called):
        parts = member_parts(called, member.name)
        if is_ignored(parts) or not parts:
            continue
        folders.update(parts[:depth] for depth in range(1, len(parts)))
        if member.isdir():
            folders.add(parts)
        elif member.islnk() and (linked := member_parts(called, member.linkname)) in files:
            target = files[linked]
            name = visible(f"{called}:{member.name}")
            files[parts] = ImageFile(name=name, path=archive, offset=target.offset, size=target.size)
        elif member.isreg() and not member.issparse():
            name = visible(f"{called}:{member.name}")
            files[parts] = ImageFile(name=name, path=archive, offset=member.offset_data, size=member.size)
        else:
            raise DataError(
                f"{visible(str(called))}: {visible(member.name)} is a link, a device or a sparse file; "
                "only plain files can be read in place. Make the archive with `tar --dereference`."
            )
    return Listing(where=visible(str(called)), files=files, folders=frozenset(folders))


def _walk(root: Path) -> Iterator[tuple[Parts, Path, bool]]:
    """Files and folders below `root`: parts, path, whether it is a folder."""
    ways: Counter[str] = Counter()
    waiting: list[tuple[Path, Parts, tuple[str, ...]]] = [(root, (), (os.path.realpath(root),))]
    while waiting:
        folder, above, real_above = waiting.pop()
        for name in _names_in(folder):
            parts, path = (*above, name), folder / name
            if is_ignored((name,)):
                continue
            is_folder = _is_folder(path)
            real = os.path.realpath(path) if is_folder else ""
            if real in real_above:
                continue  # A link back to a folder that this path is already inside of: it holds nothing new.
            yield parts, path, is_folder
            if is_folder:
                ways[real] += 1
                if ways[real] > _MOST_WAYS:
                    raise DataError(
                        f"{visible(str(root))}: links lead to the folder {visible(real)} in more than "
                        f"{_MOST_WAYS} ways. Remove links, or link to its files."
                    )
                waiting.append((path, parts, (*real_above, real)))


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise _cannot_read(folder, error) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: Path, error: OSError) -> DataError:
    return DataError(f"Cannot look into {visible(str(path))}: {error.strerror}. Check its permissions.")


def _members(archive: Path, called: Path) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(archive, "r:", tarinfo=_CheckedHeader) as tar, archive.open("rb") as raw:
            members, length, at = [], archive.stat().st_size, -1
            for member in tar:
                # Before the next one is looked for: a negative size would lead back, for ever.
                if not 0 <= member.size <= length or member.offset <= at:
                    raise tarfile.ReadError(f"an entry at byte {member.offset} has {member.size} bytes")
                members.append(member)
                at = member.offset
            # tarfile takes a cut or damaged header for the end of the archive; the real end is zeros.
            raw.seek(tar.offset)
            if raw.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
                raise tarfile.ReadError(f"it breaks off at byte {tar.offset}")
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError, RecursionError) as error:
        raise DataError(
            f"{visible(str(called))} is not a whole, uncompressed .tar: {visible(str(error))}. "
            "Download or make it again."
        ) from error
    return members


class _CheckedHeader(tarfile.TarInfo):
    """Refuses sizes that tarfile would read or skip as they are (CVE-2025-8194)."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        names = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        is_read = member.type in (*names, tarfile.SOLARIS_XHDTYPE)
        if member.size < 0 or (is_read and member.size > _LONGEST_TAR_HEADER):
            raise tarfile.ReadError(f"a header gives {member.size} bytes as its size")
        return member


def member_parts(archive: Path, name: str) -> Parts:
    """The path of an entry of an archive.

    Raises:
        DataError: it leaves the archive.
    """
    parts = tuple(part for part in PurePosixPath(name).parts if part not in ("/", "//", "."))
    if ".." in parts:
        raise DataError(
            f"{visible(str(archive))}: the path {visible(name)} leaves the archive. "
            "Make the archive again without '..'."
        )
    return parts


def refuse(what: str, names: Iterable[str], remedy: str) -> None:
    """Raise DataError naming the first of `names` in sorted order and counting them, if there are any."""
    found = sorted(names)
    if found:
        raise DataError(f"{what}:\n{in_lines(found)}\n{remedy}, then run the same command again.")


def is_ignored(parts: Parts) -> bool:
    """Whether a path is hidden, or one that systems leave behind."""
    return any(part.startswith(".") or part.lower() in _SYSTEM_NAMES for part in parts)
