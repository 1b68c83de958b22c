"""Beginning a run folder: what is in the way, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2vpt import RunConfig
from e2vpt.errors import RunError
from e2vpt.runs.folders.lock import LOCK
from e2vpt.runs.folders.opening import check_out, forget_failed_start, open_folder
from e2vpt.runs.folders.run_config import saved_run_config


def test_a_folder_that_another_job_is_just_opening(tmp_path: Path) -> None:
    """Jobs of an array start together in one folder."""
    (tmp_path / ".config.json.0a1b.tmp").write_text('{"epochs"')
    open_folder(tmp_path, {"epochs": 1}, resume=True)
    open_folder(tmp_path, {"epochs": 1}, resume=True)
    with pytest.raises(RunError, match=r"other settings: epochs 1, now 2"):
        open_folder(tmp_path, {"epochs": 2}, resume=True)
    with pytest.raises(RunError, match="holds a run already"):
        open_folder(tmp_path, {"epochs": 1}, resume=False)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_run_is_left_alone(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "photos"
    if kind == "file":
        out.write_text("")
    else:
        out.mkdir()
        (out / "cat.jpg").write_text("")
    with pytest.raises(RunError, match="exists and is not a run of e2vpt"):
        open_folder(out, {}, resume=True)


def test_of_two_that_start_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import e2vpt.runs.folders.opening as module

    real = module.make_folder

    def faster(out: Path) -> None:
        """Another process writes its config between the look and the writing."""
        real(out)
        (out / "config.json").write_text('{"seed": 1}')

    monkeypatch.setattr(module, "make_folder", faster)
    with pytest.raises(RunError, match="holds a run already"):
        open_folder(tmp_path / "run", {"seed": 2}, resume=False)
    assert (tmp_path / "run/config.json").read_text() == '{"seed": 1}'


@pytest.mark.parametrize("name", ["config.json", "splits.csv", "sub/config.json", "sub/splits.csv"])
def test_files_of_another_program_are_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"mine": 1}')
    for resume in (True, False):
        with pytest.raises(RunError, match="exists and is not a run of e2vpt"):
            check_out(tmp_path, resume=resume)
    forget_failed_start(tmp_path)
    assert path.read_text() == '{"mine": 1}'


def test_a_start_that_was_killed_between_its_files_does_not_block(tmp_path: Path) -> None:
    """Killed between a folder and its first file, or behind the lock of a run below."""
    (tmp_path / "tasks" / "pets").mkdir(parents=True)
    (tmp_path / "final" / "one").mkdir(parents=True)
    (tmp_path / "final" / "one" / LOCK).touch()
    check_out(tmp_path, resume=True)
    forget_failed_start(tmp_path)
    open_folder(tmp_path, RunConfig(backbone="demo").to_dict(), resume=True)
    assert saved_run_config(tmp_path).backbone == "demo"


def test_settings_of_a_start_that_failed_go(tmp_path: Path) -> None:
    wanted = RunConfig(backbone="demo").to_dict()
    open_folder(tmp_path, wanted | {"tune_on": []}, resume=False, parts={"prune": {"keep": 0.5}})
    open_folder(tmp_path / "final" / "one", wanted, resume=False)
    (tmp_path / "tasks" / "pets").mkdir(parents=True)
    for folder in ("tasks/pets", "final/one"):
        (tmp_path / folder / "splits.csv").write_text("split,class,file,digest\n")
    check_out(tmp_path, resume=False)
    forget_failed_start(tmp_path)
    assert not list(tmp_path.iterdir())
    open_folder(tmp_path, wanted, resume=False)
