"""A folder with a finished run, and commands called in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.commands_for_tests import TRAIN
from support.tasks_for_tests import write_task


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `shapes` and a finished run `run`."""
    folder = tmp_path_factory.mktemp("home")
    write_task(folder / "shapes", train=10)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "e2vpt", *TRAIN],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, e2vpt_command):  # type: ignore[no-untyped-def]
    """Call a command in that folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(home)
    return e2vpt_command
