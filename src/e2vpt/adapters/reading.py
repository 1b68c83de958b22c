"""An adapter file, or a bundle, read and checked in itself; whether it fits a backbone is asked later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from e2vpt.adapters.bundles import Bundled, unbundle
from e2vpt.adapters.header import FORMAT_VERSION, parse_header
from e2vpt.adapters.info import AdapterInfo
from e2vpt.errors import AdapterFormatError, in_brief
from e2vpt.files.container import read_container


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stored:
    """What lies in a file.

    Attributes:
        info: what it says of itself.
        tensors: those of the adapter.
        bundled: the backbone in a bundle; None in an adapter file.
    """

    info: AdapterInfo
    tensors: dict[str, Tensor]
    bundled: Bundled | None


def read_stored(path: str | Path) -> Stored:
    """An adapter file, or a bundle.

    Raises:
        AdapterFormatError: truncated, altered, hostile, or of a newer format.
    """
    header, tensors, size = read_container(path)
    version = header.get("format")
    if type(version) is not int or version < 1:
        raise AdapterFormatError(
            f"{path}: the header's format is {in_brief(repr(version))}; expected a whole number from 1."
        )
    if version > FORMAT_VERSION:
        raise AdapterFormatError(
            f"{path} has adapter format {in_brief(str(version))}; this e2vpt reads up to {FORMAT_VERSION}. "
            "Upgrade it: pip install -U e2vpt"
        )
    try:
        header, tensors, bundled = unbundle(header, tensors)
        info = parse_header(header, tensors, size, bundled=bundled is not None)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"it has no {error.args[0]!r}" if isinstance(error, KeyError) else in_brief(str(error))
        raise AdapterFormatError(f"{path}: the header cannot be used: {what}") from error
    return Stored(info=info, tensors=tensors, bundled=bundled)
