"""What lies in a folder or an uncompressed .tar: paths relative to it, and how to read each file in place."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from e2vpt.data.images import ImageFile
from e2vpt.errors import DataError

Parts = tuple[str, ...]
_SYSTEM_NAMES = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "thumbs.db", "desktop.ini"})
_TAR_BLOCK = 512
SHOWN = 20
"""How many names a message gives before it only counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Files and folders, hidden and system ones left out, by their path's parts below `where`."""

    where: str
    files: Mapping[Parts, ImageFile]
    folders: frozenset[Parts]

    def tops(self) -> list[str]:
        """Names of the folders at the top, sorted."""
        return sorted(parts[0] for parts in self.folders if len(parts) == 1)

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
        DataError: a folder that cannot be read.
    """
    files: dict[Parts, ImageFile] = {}
    folders: set[Parts] = set()
    for parts, path in _walk(root, (), (os.path.realpath(root),)):
        if path.is_dir():
            folders.add(parts)
        else:
            files[parts] = ImageFile(name=_printable(str(path)), path=path)
    return Listing(where=_printable(str(root)), files=files, folders=frozenset(folders))


def list_tar(archive: Path) -> Listing:
    """Everything in an uncompressed .tar; of a path stored twice the later one counts, as for tar itself.

    Raises:
        DataError: compressed, truncated or damaged, or with entries that cannot be read in place.
    """
    files: dict[Parts, ImageFile] = {}
    folders: set[Parts] = set()
    for member in _members(archive):
        parts = _member_parts(archive, member.name)
        if _ignored(parts) or not parts:
            continue
        folders.update(parts[:depth] for depth in range(1, len(parts)))
        if member.isdir():
            folders.add(parts)
        elif member.islnk() and (linked := _member_parts(archive, member.linkname)) in files:
            target = files[linked]
            name = _printable(f"{archive}:{member.name}")
            files[parts] = ImageFile(name=name, path=archive, offset=target.offset, size=target.size)
        elif member.isreg() and not member.issparse():
            name = _printable(f"{archive}:{member.name}")
            files[parts] = ImageFile(name=name, path=archive, offset=member.offset_data, size=member.size)
        else:
            raise DataError(
                f"{archive}: {member.name} is a link, a device or a sparse file; only plain files can be "
                "read in place. Make the archive with `tar --dereference`."
            )
    return Listing(where=_printable(str(archive)), files=files, folders=frozenset(folders))


def _walk(folder: Path, above: Parts, real_above: tuple[str, ...]) -> Iterator[tuple[Parts, Path]]:
    """Files and folders below `folder`, sorted, each with its parts."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(
            f"Cannot read the folder {folder}: {error.strerror}. Check its permissions."
        ) from error
    for name in names:
        parts, path = (*above, name), folder / name
        if _ignored((name,)):
            continue
        if path.is_dir():
            real = os.path.realpath(path)
            if real in real_above:
                continue  # A link back to a folder that this path is already inside of: it holds nothing new.
            yield parts, path
            yield from _walk(path, parts, (*real_above, real))
        else:
            yield parts, path


def _members(archive: Path) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(archive, "r:") as tar, archive.open("rb") as raw:
            members = tar.getmembers()
            # tarfile takes a cut or damaged header for the end of the archive; the real end is zeros.
            raw.seek(tar.offset)
            if raw.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
                raise tarfile.ReadError(f"it breaks off at byte {tar.offset}")
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{archive} is not a whole, uncompressed .tar: {error}. "
            "Download or make it again; unpack a compressed one."
        ) from error
    return members


def _member_parts(archive: Path, name: str) -> Parts:
    parts = tuple(part for part in PurePosixPath(name).parts if part not in ("/", "//", "."))
    if ".." in parts:
        raise DataError(
            f"{archive}: the path {name} leaves the archive. Make the archive again without '..'."
        )
    return parts


def refuse(what: str, names: Iterable[str], remedy: str) -> None:
    """Raise DataError naming the first of `names` in sorted order and counting them, if there are any."""
    found = sorted(names)
    if found:
        raise DataError(f"{what}:\n{in_lines(found)}\n{remedy}, then run the same command again.")


def in_lines(names: Sequence[str]) -> str:
    """The first names, one a line, and how many more there are; names need not be valid Unicode."""
    lines = ["  " + name.encode("utf-8", "backslashreplace").decode() for name in names[:SHOWN]]
    more = [f"  and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "\n".join([*lines, *more])


def _ignored(parts: Parts) -> bool:
    return any(part.startswith(".") or part in _SYSTEM_NAMES for part in parts)


def _printable(text: str) -> str:
    """File names need not be valid Unicode, messages must be."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
