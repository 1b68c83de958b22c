"""Read a task from a folder, an archive, a table or the Hugging Face Hub."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from e2vpt.config import DataConfig
from e2vpt.data.folders import read_folder, read_tar
from e2vpt.data.hub import read_hub
from e2vpt.data.images import OnProgress, verify_images
from e2vpt.data.splits import LabelledData
from e2vpt.data.tables import read_table
from e2vpt.data.task import Task
from e2vpt.errors import DataError
from e2vpt.files.paths import look_at

_ACCEPTED = "a folder of class folders, a .tar of it, a .csv of path,label[,split], or hf:NAME"


_PACKED = (".zip", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".gz")


def load_task(
    source: str | PathLike[str],
    config: DataConfig | None = None,
    *,
    verify: bool = True,
    progress: OnProgress | None = None,
) -> Task:
    """The task at `source`: a folder of class folders, a .tar of it, a .csv, or `hf:NAME`.

    With `verify`, every image is decoded once, calling `progress(done, total)`.

    Raises:
        UnreadableImages: naming every image that does not decode.
        DataError: anything else that is wrong with the data.
        MissingExtra: `hf:` without the `datasets` package.
    """
    task = read_labelled(source).to_train(config or DataConfig())
    if verify:
        verify_images([image for split in task.splits().values() for image in split.images], progress)
    return task


def read_labelled(source: str | PathLike[str]) -> LabelledData:
    """The labelled images at `source`, not yet looked at and held to no rule of training; as in `load_task`.

    Raises:
        DataError: there is nothing that can be read as labelled images.
        MissingExtra: `hf:` without the `datasets` package.
    """
    if isinstance(source, str) and source.startswith("hf:"):
        return read_hub(source)
    path = Path(source).expanduser()
    kind = look_at(path, DataError)
    if kind == "folder":
        return read_folder(path)
    if kind == "nothing":
        raise DataError(f"{source} does not exist. Expected {_ACCEPTED}.")
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return read_tar(path)
    if suffix == ".csv":
        return read_table(path)
    if suffix in _PACKED or path.suffixes[-2:-1] == [".tar"]:
        unpack = f"unzip {path}" if suffix == ".zip" else f"tar -xf {path}"
        raise DataError(
            f"{source} is a compressed archive; images are read in place, from a folder or a plain .tar. "
            f"Unpack it first (`{unpack}`) and name the folder."
        )
    raise DataError(f"{source} has a format that cannot be read. Expected {_ACCEPTED}.")
