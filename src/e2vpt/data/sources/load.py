"""Read a task from a folder, an archive, a table or the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike
from pathlib import Path

from e2vpt.config import DataConfig
from e2vpt.data.decoding.images import OnProgress
from e2vpt.data.sources.folders import read_archive, read_folder
from e2vpt.data.sources.hub import read_hub
from e2vpt.data.sources.splits import LabelledData
from e2vpt.data.sources.tables import read_table
from e2vpt.data.task import Task
from e2vpt.errors import DataError, check_type
from e2vpt.files.paths import look_at

_ACCEPTED = (
    "a folder of class folders, a .tar, .tar.gz or .zip of it, a .csv of path,label[,split], or hf:NAME"
)


_PACKED = (".tbz2", ".txz", ".7z", ".rar", ".gz")


def load_task(
    source: str | PathLike[str],
    config: DataConfig | None = None,
    *,
    verify: bool = True,
    progress: OnProgress | None = None,
) -> Task:
    """The task at `source`: a folder of class folders, a .tar, .tar.gz or .zip of it, a .csv, or `hf:NAME`.

    With `verify`, every image is decoded once, calling `progress(done, total)`.

    Raises:
        UnreadableImages: images that do not decode, unless `config.skip_unreadable` leaves them out.
        DataError: anything else that is wrong with the data.
        MissingExtra: `hf:` without the `datasets` package.
    """
    config = DataConfig() if config is None else config
    check_type("config", config, DataConfig)
    task = read_labelled(source).to_train(config)
    return task.decoded(skip=config.skip_unreadable, progress=progress) if verify else task


def read_labelled(source: str | PathLike[str], known: Collection[str] = ()) -> LabelledData:
    """The labelled images at `source`, not yet looked at and held to no rule of training; as in `load_task`.

    A single top folder with folders inside is a wrapping, unless its name is that of a `known` class.

    Raises:
        DataError: there is nothing that can be read as labelled images.
        MissingExtra: `hf:` without the `datasets` package.
    """
    check_type("source", source, str, PathLike)
    if isinstance(source, str) and source.startswith("hf:"):
        return read_hub(source)
    path = Path(source).expanduser()
    kind = look_at(path, DataError)
    if kind == "folder":
        return read_folder(path, known)
    if kind == "nothing":
        raise DataError(f"{source} does not exist. Expected {_ACCEPTED}.")
    suffix = path.suffix.lower()
    if suffix in (".tar", ".tgz", ".zip") or path.name.lower().endswith(".tar.gz"):
        return read_archive(path, known)
    if suffix == ".csv":
        return read_table(path)
    if suffix in _PACKED or path.suffixes[-2:-1] == [".tar"]:
        raise DataError(
            f"{source} is an archive of a kind that is not read. Unpack it and name the folder, or make a "
            ".tar, .tar.gz or .zip of it."
        )
    raise DataError(f"{source} has a format that cannot be read. Expected {_ACCEPTED}.")
