"""Pieces of work on two local Ray workers: each done, each failure told, a dead worker's piece done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.ray_for_tests import RayCluster

from e2vpt.errors import MissingExtra
from e2vpt.search import cluster

SCRIPT = """
import os, sys
from pathlib import Path
from e2vpt.search.cluster import run_on_cluster
from e2vpt.errors import ConfigError

out = Path(sys.argv[1])

def work(piece):
    if piece == "wrong":
        raise ConfigError("a setting that cannot be")
    if piece == "broken":
        raise ZeroDivisionError("no exception of the package")
    if piece == "killed" and not (out / "once").exists():
        (out / "once").write_text("")
        os._exit(9)
    (out / piece).write_text(str(os.getpid()))

def told(piece, problem):
    print(f"{piece}: {problem}", flush=True)

run_on_cluster(work, ["a", "wrong", "b", "broken", "killed", "c"], told, workers=2)
"""


def test_every_piece_is_done_or_told_of(tmp_path: Path, ray_cluster: RayCluster) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "script.py", str(out)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | ray_cluster.environment,
        check=True,
    )
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert {piece: told[piece] for piece in ("a", "b", "c", "killed")} == dict.fromkeys(
        ("a", "b", "c", "killed"), "None"
    )
    assert told["wrong"] == "a setting that cannot be"
    assert "no exception of the package" in told["broken"]
    assert {path.name for path in out.iterdir()} == {"a", "b", "c", "killed", "once"}
    assert str(os.getpid()) not in {(out / name).read_text() for name in "abc"}


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"A cluster needs Ray: pip install 'e2vpt\[ray\]'"):
        cluster.connect(1)
