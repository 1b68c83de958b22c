"""A small run of scripts/mutate; the whole one is `python -m scripts.mutate`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COUNT = 24


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_no_mutated_input_is_misread(tmp_path: Path) -> None:
    """Each is refused with an error of ours or read as an independent reader reads it."""
    words = [sys.executable, "-m", "scripts.mutate", "--seed", "3", "--count", str(COUNT), "--jobs", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    lines = [line.split("; slowest")[0] for line in done.stdout.splitlines()]
    assert [line.split(":")[0] for line in lines] == ["adapters", "images", "tars", "tables", "weights"]
    for line in lines:
        assert f": {COUNT} inputs, " in line and line.endswith(", 0 faults"), line
        assert " 0 refused" not in line and " 0 right" not in line, line
