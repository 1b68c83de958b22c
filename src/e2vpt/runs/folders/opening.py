"""Beginning a run folder or going on with it, and what is refused before anything slow begins.

What belongs to another program is neither written to nor removed; what a failed or killed start left is
not in the way.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2vpt.errors import RunError
from e2vpt.files.atomic import create_atomic, make_folder
from e2vpt.files.paths import check_folder_place, listed, look_at
from e2vpt.runs.folders.folder import CONFIG, GRID_FOLDER, PRUNE_FOLDER, TASKS, read_config
from e2vpt.runs.folders.identity import SPLITS, changed_settings
from e2vpt.runs.folders.lock import LOCK


def open_folder(
    out: Path,
    wanted: Mapping[str, Any],
    *,
    resume: bool,
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Create a folder with its config, or check that what is in it is what is to be resumed.

    `parts` are further settings, each in a folder below; where the config stands, theirs do too.

    Raises:
        RunError: it was made with another config, or cannot be written.
    """
    # Listed once: of jobs that start together in one folder, another one may be writing its config now.
    kind = look_at(out)
    found = {path.name for path in listed(out)} if kind == "folder" else set()
    if CONFIG in found:
        if not resume:
            raise _begun(out)
        saved, asked = read_config(out / CONFIG), json.loads(json.dumps(wanted))
        different = changed_settings(saved, asked)
        if different:
            once = "A run is pruned once; train again in another folder to prune it otherwise."
            again = "Resume with the same command, or choose another --out."
            raise RunError(
                f"{out} was made with other settings: {'; '.join(different)} (see {out / CONFIG}). "
                f"{once if out.name == PRUNE_FOLDER else again}"
            )
        _open_parts(out, parts)
        return
    # Folders without files do not count: a start that was killed leaves some.
    if kind not in ("folder", "nothing") or (kind == "folder" and has_begun(out)):
        raise _foreign(out)
    make_folder(out)
    _open_parts(out, parts)
    if not create_atomic(out / CONFIG, (json.dumps(wanted, indent=2) + "\n").encode()):
        open_folder(out, wanted, resume=resume, parts=parts)  # another process was faster


def _open_parts(out: Path, parts: Mapping[str, Mapping[str, Any]] | None) -> None:
    for name, settings in (parts or {}).items():
        open_folder(out / name, settings, resume=True)


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse an `out` that cannot be used, before anything slow begins.

    Raises:
        RunError: it holds a run and `resume` is False; or something else; or it cannot be created.
    """
    kind = look_at(out)
    if kind == "folder" and has_begun(out):
        if look_at(out / CONFIG) == "nothing" or not _is_made_here(read_config(out / CONFIG)):
            raise _foreign(out)
        if not resume:
            raise _begun(out)
    elif kind not in ("folder", "nothing"):
        raise RunError(f"{out} is a file. Choose another --out.")
    check_folder_place(out)


def _begun(out: Path) -> RunError:
    return RunError(f"{out} holds a run already. Go on with it by --resume, or choose another --out.")


def _foreign(out: Path) -> RunError:
    return RunError(f"{out} exists and is not a run of e2vpt. Choose another --out.")


def has_begun(out: Path) -> bool:
    """Whether anything in a folder is worth keeping: more than settings of a start that failed."""
    return any(
        path.is_file() and not _is_passing(path.name) and not _is_of_a_start(path) for path in out.rglob("*")
    )


def forget_failed_start(out: Path) -> None:
    """Remove settings of a start that failed before its first epoch, so that they do not block the next."""
    if look_at(out) == "folder" and not has_begun(out):
        # All are found before any goes: a list of images is known by the settings beside it.
        for path in [path for path in out.rglob("*") if path.is_file() and _is_of_a_start(path)]:
            path.unlink(missing_ok=True)
            for folder in path.parents[: len(path.relative_to(out).parts) - 1]:
                _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # It is gone already, or something else is in it.
        for path in folder.iterdir():
            if _is_passing(path.name):
                path.unlink()
        folder.rmdir()


def _is_of_a_start(path: Path) -> bool:
    """Whether a file is settings or a list of images, which stand there before the first epoch, and ours."""
    folder = path.parent
    if path.name == CONFIG:
        return folder.name in (PRUNE_FOLDER, GRID_FOLDER) or _is_ours(path)
    of = folder.parent.parent if folder.parent.name == TASKS else folder
    return path.name == SPLITS and (_is_ours(folder / CONFIG) or _is_ours(of / CONFIG))


def _is_ours(path: Path) -> bool:
    try:
        return _is_made_here(read_config(path))
    except RunError:
        return False


def _is_made_here(saved: Mapping[str, Any]) -> bool:
    """Whether settings are of a folder of ours: the backbone is in all of them."""
    return "backbone" in saved


def _is_passing(name: str) -> bool:
    """Files of the moment: a lock, a file that is just being written."""
    return name == LOCK or name.endswith(".tmp")
