"""A Ray cluster of two local workers, one of which is killed: the search ends complete."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.ray_for_tests import RayCluster
from support.tasks_for_tests import write_task

from e2vpt.errors import ConfigError, RunError
from e2vpt.search.on_cluster import _results, check_extent
from e2vpt.search.space import finished_search

FLAGS = (
    "--engine ray --workers 2 --epochs 6 --batch-size 9 --trials 3 --visual-choices 2,4 --keep-choices 1,0.5"
)
COMMAND = [sys.executable, "-m", "e2vpt", "search"]


def test_a_killed_worker_loses_its_trial_only(tmp_path: Path, ray_cluster: RayCluster) -> None:
    # Workers find the images under an absolute path: they were started elsewhere.
    data = write_task(tmp_path / "shapes")
    environment = os.environ | ray_cluster.environment
    words = [*COMMAND, str(data), "--backbone", "demo", "--out", "found", *FLAGS.split()]
    search = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment)
    killed, deadline = False, time.monotonic() + 240
    while search.poll() is None and not killed and time.monotonic() < deadline:
        if any((tmp_path / "found").glob("trial-*/log.jsonl")):
            worker = ray_cluster.trial_worker()
            if worker is not None:
                worker.kill()
                killed = True
        time.sleep(0.05)
    _, said = search.communicate(timeout=400)
    assert killed, said
    assert search.returncode == 0, said
    with (tmp_path / "found/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and [row["state"] for row in rows] == ["complete"] * 3
    accuracies = [float(row["accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    for row in rows:
        assert int(row["epochs"]) == (6 if float(row["keep"]) == 1 else 12)
    best = tmp_path / f"found/trial-{rows[0]['name']}/adapter.safetensors"
    assert (tmp_path / "found/adapter.safetensors").read_bytes() == best.read_bytes()
    # The finished search is found again, and read from Ray's own record.
    again = subprocess.run(
        [*words, "--resume"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    with (tmp_path / "found/trials.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    # Ray would go on with three trials without a word.
    more = subprocess.run(
        [*words, "--resume", "--trials", "4"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert more.returncode == 1 and "was begun with trials 3, now 4: Ray Tune cannot" in more.stderr


def test_a_search_goes_on_with_the_trials_and_workers_it_began_with(tmp_path: Path) -> None:
    check_extent(tmp_path, 4, 2)  # none yet
    (tmp_path / "ray.json").write_text('{"trials": 4, "workers": 2}')
    check_extent(tmp_path, 4, 2)
    with pytest.raises(ConfigError, match=r"was begun with trials 4, now 5; workers 2, now 3: Ray Tune"):
        check_extent(tmp_path, 5, 3)


def test_what_is_left_of_every_kind_of_trial(tmp_path: Path) -> None:
    tried = {"lr": 0.01, "weight_decay": 0.1, "num_visual": 2, "num_kv": 1, "init": "patch", "keep": 1.0}
    stopped = {"name": "a", "state": "stopped", "accuracy": 0.5, "loss": 1.5, "epochs": 1, **tried}
    reports = [{"accuracy": 0.5, "epochs": 1, "result": stopped}, {}, None]  # two did not finish an epoch
    found = _results([SimpleNamespace(metrics=report) for report in reports])
    with pytest.raises(RunError, match="is complete"):
        finished_search(tmp_path, found)
    assert "a,stopped,0.5" in (tmp_path / "trials.csv").read_text()
    assert not (tmp_path / "adapter.safetensors").exists()
    with pytest.raises(RunError, match=r"came to an end; what went wrong is in .*ray"):
        finished_search(tmp_path, [])
