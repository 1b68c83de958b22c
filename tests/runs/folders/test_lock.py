"""One process at a time in a folder; a process that dies lets go."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2vpt.errors import RunError
from e2vpt.runs.folders.lock import only_one

HOLD = """
import sys, time
from pathlib import Path
from e2vpt.runs.folders.lock import only_one
with only_one(Path(sys.argv[1])):
    Path(sys.argv[2]).touch()
    time.sleep(600)
"""


def test_a_second_one_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    out, ready = tmp_path / "run", tmp_path / "ready"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out), str(ready)]) as first:
        try:
            while not ready.exists():
                assert first.poll() is None
                time.sleep(0.05)
            with pytest.raises(RunError, match="Another process works in"), only_one(out):
                pass
        finally:
            first.kill()
    with only_one(out):
        pass


def test_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), only_one(tmp_path):
        raise ValueError("stop")
    with only_one(tmp_path):
        pass
