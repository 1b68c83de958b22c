"""Hugging Face data sets: `hf:NAME` or `hf:NAME:CONFIGURATION` from the Hub, `hf:/path` from disk.

Needs the `datasets` package.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from e2vpt.data.decoding.images import ImageFile, ImageSource, decode
from e2vpt.data.sources.hub_columns import (
    Named,
    by_split,
    classes_in_order,
    find_columns,
    hf_library,
    names_by_row,
    without_labels,
)
from e2vpt.data.sources.splits import Labelled, LabelledData, SplitName
from e2vpt.errors import DataError, UnreadableImages, visible
from e2vpt.files.downloads import cache_only_without_connection


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowImage:
    """The image in one row of a Hugging Face data set; its bytes are read when opened."""

    name: str
    rows: Any
    column: str
    index: int
    folders: tuple[Path, ...] = ()
    """Where files that a row names may lie."""

    def open(self, as_stored: bool = False) -> Image.Image:
        """See `ImageSource.open`."""
        cell = self.rows[self.index][self.column]
        try:
            data, path = cell["bytes"], cell["path"]
        except (TypeError, KeyError) as error:
            raise UnreadableImages({self.name: "the cell is empty"}) from error
        if data is not None:
            return decode(data, self.name, as_stored)
        if path is None or not _inside_any(path, self.folders):
            reason = f"its row names {visible(str(path))}, a file outside of the data set, which is not read"
            raise UnreadableImages({self.name: reason})
        return ImageFile(name=self.name, path=Path(path)).open(as_stored)


def read_hub(source: str) -> LabelledData:
    """The labelled images of `hf:NAME`, `hf:NAME:CONFIGURATION` or `hf:/path/to/saved`.

    Images are decoded only when used.
    A data set on the Hub may hold several under names of their own, called configurations or subsets.
    Splits train, val (valid, validation) and test are used, others left alone; a data set without splits, or
    with the one split train, is split for training. A val or test split without a single label is left out.
    The image column is the one of type Image; the label column the one of type ClassLabel,
    or else `label`, whose distinct values then are the classes.

    Raises:
        MissingExtra: `datasets` is not installed.
        DataError: it cannot be loaded, has no or several candidate columns, or rows without a label.
    """
    loaded = open_hub(source)
    named: Named = by_split(source, loaded) if isinstance(loaded, Mapping) else {"all": loaded}
    blank = without_labels(source, named)
    named = {which: rows for which, rows in named.items() if which not in blank}
    image, label = find_columns(source, named)
    names = {which: names_by_row(f"{source} {which}", rows, label) for which, rows in named.items()}
    known = getattr(next(iter(named.values())).features[label], "names", None)
    classes = known or classes_in_order(
        names[next(which for which in ("all", "train", *names) if which in names)]
    )
    found: dict[SplitName | Literal["all"], Labelled] = {
        which: list(zip(row_images(f"{source} {which}", rows, image), names[which], strict=True))
        for which, rows in named.items()
    }
    if set(found) == {"train"} and not blank:  # what the Hub calls a data set that nobody has split
        found = {"all": found["train"]}
    name, configuration = _address(source)
    title = "-".join(filter(None, [Path(name).name, configuration]))
    return LabelledData(name=title, classes=tuple(classes), found=found, without_labels=blank)


def open_hub(source: str) -> Any:
    """The data set itself, a mapping of splits by name or one without splits; see `read_hub` for `source`.

    Raises:
        MissingExtra: `datasets` is not installed.
        DataError: it cannot be loaded.
    """
    datasets = hf_library()
    name, configuration = _address(source)
    folder = Path(name).expanduser()
    saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
    if saved and configuration:
        raise DataError(
            f"{source}: {folder} was written by save_to_disk, which knows no configurations. "
            f"Leave :{configuration} out."
        )
    problem = ""
    try:
        if saved:
            return datasets.load_from_disk(str(folder))
        if folder.exists():
            return datasets.load_dataset(str(folder), configuration)
        with cache_only_without_connection() as problem, _told_offline(datasets, bool(problem)):
            return datasets.load_dataset(name, configuration)
    except Exception as error:  # Network, authentication, parsing: the library has no common base class.
        found = f"it is not in the cache, and {problem}" if problem else f"{type(error).__name__}: {error}"
        raise DataError(
            f"{source} cannot be loaded: {found} Expected the name of a data set on huggingface.co, or a "
            "folder written by save_to_disk."
        ) from error


@contextmanager
def _told_offline(datasets: Any, offline: bool) -> Iterator[None]:
    """Inside, `datasets` does not ask the hub either, and is silent about it."""
    config, logs = datasets.config, datasets.utils.logging
    before, verbosity = config.HF_HUB_OFFLINE, logs.get_verbosity()
    if offline:
        config.HF_HUB_OFFLINE = True
        logs.set_verbosity_error()
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before
        logs.set_verbosity(verbosity)


def row_images(where: str, rows: Any, column: str) -> list[ImageSource]:
    """The images in a column, by row, undecoded; `where[row]` is what messages call them.

    Rows hold bytes, or name files in the folder of the data set or where `datasets` unpacks downloads. A row
    is a stranger's: it does not choose among all files of this machine.
    """
    # Undecoded, so that our own decoder names what is broken, and so that other columns are never read.
    raw = (
        rows.with_format(None).select_columns([column]).cast_column(column, hf_library().Image(decode=False))
    )
    folders = (*_caches(), *_own_folder(where))
    return [
        RowImage(name=f"{visible(where)}[{i}]", rows=raw, column=column, index=i, folders=folders)
        for i in range(len(raw))
    ]


def _caches() -> list[Path]:
    config = hf_library().config
    return [
        Path(folder).expanduser().resolve() for folder in (config.HF_DATASETS_CACHE, config.HF_CACHE_HOME)
    ]


def _own_folder(where: str) -> list[Path]:
    """The local folder of `hf:/folder split`, if it is one."""
    names = (_address(source)[0] for source in (where, where.rpartition(" ")[0]) if source)
    folders = (Path(name).expanduser() for name in names)
    return [folder.resolve() for folder in folders if folder.is_dir()]


def _inside_any(path: str, folders: Iterable[Path]) -> bool:
    """Whether a path, as written or with links followed, lies in one of the folders."""
    ways = (Path(os.path.abspath(path)), Path(os.path.realpath(path)))
    return any(way.is_relative_to(folder) for folder in folders for way in ways)


def _address(source: str) -> tuple[str, str | None]:
    """Name or folder, and the configuration if one is given; a folder's own name may hold colons."""
    full = source.removeprefix("hf:")
    name, colon, configuration = full.rpartition(":")
    if not colon or Path(full).expanduser().exists():
        return full, None
    return name, configuration or None
