"""A Ray cluster of two local workers, for all tests that need one: starting it takes seconds."""

from __future__ import annotations

import dataclasses
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

# As `e2vpt` starts one where no address is given. It ends with its standard input.
_SCRIPT = """
import sys
from e2vpt.search.cluster import connect
print("at", connect(2).get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@dataclasses.dataclass(frozen=True)
class RayCluster:
    """A running cluster, and the process below which all of its processes are."""

    process: psutil.Process
    environment: Mapping[str, str]
    """What makes `e2vpt` use it."""

    def trial_worker(self) -> psutil.Process | None:
        """One of its processes that runs a trial, by the name Ray gives it; no other cluster's."""
        for process in self.process.children(recursive=True):
            try:
                if any("ray::ImplicitFunc" in word for word in process.cmdline()):
                    return process
            except psutil.Error:  # it has ended meanwhile
                continue
        return None


@contextmanager
def running_cluster() -> Iterator[RayCluster]:
    """Start it, and end it afterwards."""
    # A token of its own keeps it apart from any other cluster of this machine.
    own = {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Workers are nice by 15 otherwise, and hardly run while other tests keep both cores busy.
    own["RAY_worker_niceness"] = "0"
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=inherited | own,
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        try:
            lines = iter(process.stdout.readline, "")
            address = next((line.split()[1] for line in lines if line.startswith("at ")), "")
            assert address, "Ray did not start"
            yield RayCluster(psutil.Process(process.pid), own | {"RAY_ADDRESS": address})
        finally:
            process.stdin.close()
