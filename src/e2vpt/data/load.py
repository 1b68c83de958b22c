"""Read a task from a folder, an archive, a table or the Hugging Face Hub."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from e2vpt.config import DataConfig
from e2vpt.data.folders import load_folder, load_tar
from e2vpt.data.hub import load_hub
from e2vpt.data.images import OnProgress, verify_images
from e2vpt.data.tables import load_table
from e2vpt.data.task import Task
from e2vpt.errors import DataError
from e2vpt.files.paths import look_at

_ACCEPTED = "a folder of class folders, a .tar of it, a .csv of path,label[,split], or hf:NAME"


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
    task = _load(source, config or DataConfig())
    if verify:
        verify_images([image for split in task.splits().values() for image in split.images], progress)
    return task


def _load(source: str | PathLike[str], config: DataConfig) -> Task:
    if isinstance(source, str) and source.startswith("hf:"):
        return load_hub(source, config)
    path = Path(source).expanduser()
    kind = look_at(path, DataError)
    if kind == "folder":
        return load_folder(path, config)
    if kind == "nothing":
        raise DataError(f"{source} does not exist. Expected {_ACCEPTED}.")
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return load_tar(path, config)
    if suffix == ".csv":
        return load_table(path, config)
    raise DataError(
        f"{source} has a format that cannot be read. Expected {_ACCEPTED}; unpack other archives first."
    )
