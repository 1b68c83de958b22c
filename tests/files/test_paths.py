"""Paths that the system does not let be looked at end in an error of ours, wherever a path is given."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from pathlib import Path

import pytest
from support.refusals import not_refused

import e2vpt
from e2vpt.errors import DataError, E2VPTError, RunError, WeightsError
from e2vpt.files.atomic import read_json_lines
from e2vpt.files.paths import check_file_place, check_folder_place, listed, look_at
from e2vpt.runs.folders.finding import adapter_path
from e2vpt.runs.folders.opening import check_out, open_folder
from e2vpt.runs.folders.run_config import saved_run_config

LONG = "x" * 300
"""More than the 255 bytes of a name that file systems take."""


def test_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dead").symlink_to(tmp_path / "gone")
    kinds = {name: look_at(tmp_path / name) for name in ("", "file", "pipe", "link", "dead", "file/below")}
    assert list(kinds.values()) == ["folder", "file", "something else", "folder", "nothing", "nothing"]
    assert [path.name for path in listed(tmp_path)] == ["dead", "file", "link", "pipe"]


def test_the_reason_is_told_and_a_long_name_is_cut(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for path, why in (
        (Path(LONG), "File name too long"),
        (Path("a\0b"), "null"),
        (tmp_path / "round", "symbolic"),
    ):
        with pytest.raises(DataError, match=f"Cannot look at .*{why}") as caught:
            look_at(path, DataError)
        assert len(str(caught.value)) < 400
    with pytest.raises(RunError, match=r"Cannot list .*Not a directory"):
        listed(Path(__file__))


def test_where_nothing_can_be_written_is_found_beforehand(tmp_path: Path) -> None:
    check_folder_place(tmp_path / "new/run")
    check_file_place(tmp_path / "file")
    (tmp_path / "file").touch()
    check_file_place(tmp_path / "file", [tmp_path / "gone"])
    (tmp_path / "link").symlink_to(tmp_path / "file")
    cases = [
        (partial(check_folder_place, tmp_path / "file/run"), "file is no folder that may be written to"),
        (partial(check_file_place, tmp_path / "file/f.npy"), "file is no folder that may be written to"),
        (partial(check_file_place, tmp_path / "gone/f.npy"), "gone is no folder that may be written to"),
        (partial(check_file_place, tmp_path), "it is a folder"),
        (
            partial(check_file_place, tmp_path / "file", [tmp_path / "gone", tmp_path / "link"]),
            "is read for this",
        ),
    ]
    assert not_refused(cases, RunError) == []


def test_a_read_only_folder_of_somebody_else(tmp_path: Path) -> None:
    """In a process that is not root, as root may write everywhere."""
    os.chmod(tmp_path, 0o555)
    child = multiprocessing.get_context("fork").Process(target=_refused_as_nobody, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 0


def _refused_as_nobody(folder: Path) -> None:
    os.chdir(folder)  # Relative from here on: nobody may not come through the folders above.
    if os.getuid() == 0:
        os.setuid(65534)
    cases = [
        (partial(check, Path("new")), "may be written to") for check in (check_folder_place, check_file_place)
    ]
    assert not_refused(cases, RunError) == []


def test_every_place_where_a_path_is_given(tmp_path: Path) -> None:
    long = tmp_path / LONG
    weights = partial(e2vpt.load_backbone, "demo", num_classes=2)
    calls = [
        partial(weights, weights=f"{long}.pth"),
        partial(weights, weights="a\0b.pth"),
        *(partial(call, long) for call in (adapter_path, saved_run_config, read_json_lines)),
        *(
            partial(call, long)
            for call in (e2vpt.read_adapter, e2vpt.load_adapter, e2vpt.load, e2vpt.load_task)
        ),
        partial(check_out, long, resume=False),
        partial(check_out, long / "below", resume=True),
        partial(open_folder, long, {}, resume=False),
        partial(e2vpt.train, long, "demo", tmp_path / "out"),
        partial(e2vpt.train, tmp_path, "demo", long),
        partial(e2vpt.train, None, None, long, resume=True),
        partial(e2vpt.train, tmp_path, "demo", tmp_path / "out", weights=f"{long}.pth"),
    ]
    assert not_refused([(call, "too long|null") for call in calls], E2VPTError) == []
    with pytest.raises(WeightsError):
        calls[0]()
