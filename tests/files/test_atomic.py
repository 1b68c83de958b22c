"""Files are whole or not there: full disks, missing folders, and writers killed at the worst moment."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import e2vpt
from e2vpt.errors import ConfigError, RunError
from e2vpt.files.atomic import create_atomic, remove_unfinished, write_atomic

OLD, NEW = b"old content", b"new content" * 1000
# The package without its __init__, which would import torch: atomic.py alone starts in a tenth of a second.
CHILD = f"""
import os, pathlib, resource, signal, sys, types
package = types.ModuleType("e2vpt")
package.__path__ = [{str(Path(e2vpt.__file__).parent)!r}]
sys.modules["e2vpt"] = package
from e2vpt.errors import RunError
from e2vpt.files.atomic import write_atomic
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(OLD)
    return file


def run_child(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD + script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def only(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()]


def test_replaces_and_leaves_nothing_beside(path: Path) -> None:
    write_atomic(str(path), NEW)
    assert path.read_bytes() == NEW and only(path) == [path.name]


def test_what_a_check_refuses_is_not_kept(path: Path) -> None:
    def refuse(temporary: Path) -> None:
        assert temporary.read_bytes() == NEW
        raise ConfigError("not this")

    with pytest.raises(ConfigError, match="not this"):
        write_atomic(path, NEW, refuse)
    assert path.read_bytes() == OLD and only(path) == [path.name]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "written", NEW)
    (tmp_path / "plain").write_bytes(NEW)
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_longest_name_a_folder_takes(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".safetensors")
    write_atomic(path, NEW)
    assert path.read_bytes() == NEW and only(path) == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    message = (
        rf"Could not write .*adapter.safetensors \({len(NEW)} bytes\): No space left on device\. Nothing"
    )
    with pytest.raises(RunError, match=message):
        write_atomic(path, NEW)
    assert path.read_bytes() == OLD and only(path) == [path.name]


def test_new_files_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "config.json"
    assert create_atomic(path, b"one") and path.read_bytes() == b"one"
    assert not create_atomic(path, b"two") and path.read_bytes() == b"one"
    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(RunError, match="Operation not permitted"):
        create_atomic(tmp_path / "other.json", b"one")
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_an_interrupt_leaves_no_temporary(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, NEW)
    assert path.read_bytes() == OLD and only(path) == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits on Windows")
def test_a_real_write_that_stops_half_way(path: Path) -> None:
    script = f"""
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    write_atomic(sys.argv[1], {NEW!r})
except RunError as error:
    print(error)
"""
    done = run_child(script, path)
    assert done.stdout.startswith(f"Could not write {path} ({len(NEW)} bytes): File too large."), done.stderr
    assert path.read_bytes() == OLD and only(path) == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_a_writer_killed_before_the_rename_leaves_the_old_file_whole(path: Path) -> None:
    script = f"""
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(sys.argv[1], {NEW!r})
"""
    assert run_child(script, path).returncode == -signal.SIGKILL
    assert path.read_bytes() == OLD
    left = [entry for entry in path.parent.iterdir() if entry != path]
    assert [entry.read_bytes() for entry in left] == [NEW]  # nobody is left to remove it
    assert left[0].name.startswith(f".{path.name}.") and left[0].suffix == ".tmp"
    (path.parent / ".mine.tmp").touch()  # not of this package
    remove_unfinished(path.parent)
    assert sorted(only(path)) == [".mine.tmp", path.name]


@pytest.mark.parametrize(
    ("relative", "reason"),
    [
        ("adapter.safetensors/below", "Not a directory"),
        ("missing/file", "No such file or directory"),
        (".", "Is a directory|Invalid argument|Device or resource busy|Directory not empty|File exists"),
        ("x" * 300, "File name too long"),
        ("nul\0name", "embedded null"),
    ],
)
def test_places_that_cannot_be_written(path: Path, relative: str, reason: str) -> None:
    with pytest.raises(RunError, match=rf"Could not write .*\(11000 bytes\): .*({reason})"):
        write_atomic(path.parent / relative, NEW)
    assert path.read_bytes() == OLD and only(path) == [path.name]
