"""Commands that are killed in the middle of a training, at a random moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


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
