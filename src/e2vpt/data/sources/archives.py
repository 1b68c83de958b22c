"""What lies in an archive: a .tar or .zip, read in place, or a .tar.gz, unpacked once to a temporary .tar."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gzip
import io
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.sources.listing import Listing, Parts, is_ignored, list_tar, member_parts
from e2vpt.errors import DataError, visible

_GZIP, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_LONGEST_DIRECTORY = 2**25
"""Bytes of the table of contents of a .zip: about half a million images."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_PIECE = 2**20
_ALWAYS_UNPACKED, _LARGEST_RATIO = 2**28, 50
"""Photos are compressed already: what grows beyond this in a .tar.gz is no archive of images."""


def list_archive(path: Path) -> Listing:
    """Everything in a .tar, .tar.gz or .zip, told apart by their first bytes, or else by their names.

    Raises:
        DataError: damaged, or with entries that cannot be read; see `list_tar`.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise _unusable(path, error) from error
    suffix = path.suffix.lower()
    if start in _ZIP or suffix == ".zip":
        return list_zip(path)
    if start.startswith(_GZIP) or suffix in (".gz", ".tgz"):
        status = path.stat()
        return list_tar(_unpacked(path, status.st_size, status.st_mtime_ns), called=path)
    return list_tar(path)


def list_zip(archive: Path) -> Listing:
    """Everything in a .zip; of a path stored twice the later one counts.

    Raises:
        DataError: truncated, damaged or encrypted, of a compression other than deflate, or with links.
    """
    files: dict[Parts, ImageFile] = {}
    folders: set[Parts] = set()
    try:
        with _BoundedFile(archive) as raw, zipfile.ZipFile(raw) as opened:
            for entry in opened.infolist():
                # Some programs for Windows separate folders by backslashes.
                name = PurePosixPath(entry.filename.replace("\\", "/"))
                parts = member_parts(archive, str(name))
                if is_ignored(parts) or not parts:
                    continue
                folders.update(parts[:depth] for depth in range(1, len(parts)))
                if entry.is_dir():
                    folders.add(parts)
                else:
                    files[parts] = _file(archive, raw, entry)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise _unusable(archive, error) from error
    return Listing(where=visible(str(archive)), files=files, folders=frozenset(folders))


class _BoundedFile(io.FileIO):
    """zipfile reads the whole table of contents at once, as long as the archive says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file, up to a bound."""
        if size is not None and size > _LONGEST_DIRECTORY:
            raise zipfile.BadZipFile(f"a table of contents of {size:,} bytes; at most {_LONGEST_DIRECTORY:,}")
        return super().read(size) or b""


def _file(archive: Path, raw: io.FileIO, entry: zipfile.ZipInfo) -> ImageFile:
    name = visible(f"{archive}:{entry.filename}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    wrong = (
        "is encrypted"
        if entry.flag_bits & 1
        else "is a link or a device"
        if kind not in (0, stat.S_IFREG)
        else "is compressed in a way other than deflate"
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        else ""
    )
    if wrong:
        raise DataError(
            f"{name} {wrong}, and cannot be read in place. Unpack the archive and name the folder."
        )
    raw.seek(entry.header_offset)
    signature, *lengths = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
    start = entry.header_offset + _LOCAL_HEADER.size + sum(lengths)
    if signature != b"PK\x03\x04" or start + entry.compress_size > os.fstat(raw.fileno()).st_size:
        raise zipfile.BadZipFile(f"it breaks off at {visible(entry.filename)}")
    inflated = entry.file_size if entry.compress_type == zipfile.ZIP_DEFLATED else None
    return ImageFile(name=name, path=archive, offset=start, size=entry.compress_size, inflated=inflated)


@functools.cache
def _unpacked(archive: Path, size: int, _changed: int) -> Path:
    """The .tar in a .tar.gz as a temporary file, which goes when this process ends."""
    most = max(_ALWAYS_UNPACKED, _LARGEST_RATIO * size)
    try:
        handle, name = tempfile.mkstemp(prefix="e2vpt-", suffix=".tar")
    except OSError as error:
        raise _unusable(archive, error) from error
    atexit.register(_remove, name, os.getpid())
    try:
        with os.fdopen(handle, "wb") as plain, gzip.open(archive) as packed:
            while piece := packed.read(_PIECE):
                if plain.tell() + len(piece) > most:
                    raise ValueError(f"it unpacks to more than {most:,} bytes, too many for images")
                plain.write(piece)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        _remove(name, os.getpid())
        raise _unusable(archive, error) from error
    return Path(name)


def _remove(name: str, owner: int) -> None:
    if os.getpid() == owner:  # not a process that was forked from it
        with contextlib.suppress(OSError):
            os.unlink(name)


def _unusable(archive: Path, error: Exception) -> DataError:
    reason = visible(str(getattr(error, "strerror", None) or error)) or type(error).__name__
    return DataError(
        f"{visible(str(archive))} cannot be read as an archive: {reason}. Download or make it again, or "
        f"unpack it and name the folder. A .tar.gz needs room in {tempfile.gettempdir()} (TMPDIR)."
    )
