"""Commands that are killed in the middle, and what their folders hold afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def killed_process(words: Sequence[str], log: Path, epochs: int) -> None:
    """Run an e2vpt command until the log of a training has so many lines, and kill it soon after that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "e2vpt", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # As many threads as the tests have, or sums are in another order.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= epochs:
            time.sleep(random.uniform(0, 0.2))
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, f"it ended before it could be killed: {said}"
    assert log.exists(), f"no line in {log} after 240 s: {said}"


def differences(whole: Path, other: Path) -> list[str]:
    """Files, below either folder, that are not in both with the same bytes.

    A study database also holds times, and trials that a kill cut off: its finished trials are compared.
    """
    names = {path.relative_to(top) for top in (whole, other) for path in top.rglob("*") if path.is_file()}
    return [str(name) for name in sorted(names) if _content(whole / name) != _content(other / name)]


def _content(path: Path) -> Any:
    if not path.exists():
        return None
    return _finished_trials(path) if path.name == "study.db" else path.read_bytes()


def _finished_trials(path: Path) -> list[Any]:
    import optuna

    study = optuna.load_study(study_name="e2vpt", storage=f"sqlite:///{path}")
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    names = ("state", "values", "params", "distributions", "intermediate_values", "user_attrs")
    return [[getattr(trial, name) for name in names] for trial in study.get_trials(states=states)]
