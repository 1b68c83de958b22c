"""From what a user names to an adapter file, and from an adapter file to its run."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from e2vpt.errors import SHOWN, RunError
from e2vpt.files.hub import ON_THE_HUB, hub_file, repository_of
from e2vpt.files.paths import listed, look_at
from e2vpt.runs.folders.folder import ADAPTER, CONFIG, LAST, kind_of, read_config


def adapter_path(adapter_or_run: str | PathLike[str]) -> Path:
    """The adapter file meant by a file, a run folder, or `hf-hub:owner/name@revision`, which is downloaded.

    Raises:
        HubError: the Hub cannot be reached, or has no such adapter.
        RunError: the folder has no finished training, or there is nothing at this path.
    """
    path = Path(adapter_or_run)
    if path.as_posix().startswith(ON_THE_HUB):
        repository, _, revision = path.as_posix().removeprefix(ON_THE_HUB).partition("@")
        return hub_file(repository, ADAPTER, revision or None)
    kind = look_at(path)
    if kind == "folder":
        if look_at(path / ADAPTER) == "nothing":
            raise _no_adapter(path)
        return path / ADAPTER
    if kind == "nothing":
        raise RunError(f"{path} does not exist; expected an adapter file or a run folder of `e2vpt train`.")
    return path


def task_name(adapter: str | Path) -> str:
    """What a task is called whose adapter lies here: like its repository, its run folder, or the file."""
    path = Path(adapter)
    if path.as_posix().startswith(ON_THE_HUB):
        return path.name.partition("@")[0]
    repository = repository_of(path)
    if repository is not None:
        return repository.rpartition("/")[2]
    folder = path.resolve().parent.name
    return folder if folder and path.name == ADAPTER else path.stem


def _no_adapter(folder: Path) -> RunError:
    """For a run that is not finished, for a folder of runs, and for any other folder."""
    if look_at(folder / CONFIG) != "nothing":
        kind = kind_of(read_config(folder / CONFIG))
        if kind != "run":
            return RunError(
                f"{folder} has no {ADAPTER}: it holds a {kind}. Finish a search with `e2vpt search "
                "--resume`, or name a run below the folder."
            )
        return RunError(
            f"{folder} has no {ADAPTER}: its training is not finished. Finish it with `e2vpt train --resume "
            f"--out {folder}`, or name {folder / LAST}."
        )
    runs = [str(path) for path in listed(folder) if look_at(path / ADAPTER) == "file"]
    if runs:
        more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
        return RunError(f"{folder} is not a run but holds runs: {', '.join(runs[:SHOWN])}{more}. Name one.")
    return RunError(
        f"{folder} is no run folder of `e2vpt train`, and holds none. Name a run or an adapter file."
    )


def run_of(adapter: Path, classes: Sequence[str], fingerprint: str) -> Path | None:
    """The run folder an adapter lies in (it may be one of its prunings); None for an adapter alone.

    A `config.json` of something else, or of a run with other classes or another backbone, is not its run's.
    """
    for folder in adapter.absolute().parents[:3]:
        try:
            found = read_config(folder / CONFIG)
        except RunError:
            continue
        if found.get("classes") == list(classes) and found.get("fingerprint") == fingerprint:
            return folder
    return None
