"""Two replicas by Ray Serve: they answer as one server does, and one that is killed is replaced meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from support.serving_for_tests import AS_CLIENT, TOKEN, encoded_image, offline

from e2vpt.benchmarks.load.server import started
from e2vpt.serving.replicas import REPLICA_LOST, _gpu_share

CLOSE = 1e-5
NAMES = ("task0", "task1", "task2")


def replicas_below(process: subprocess.Popen[bytes]) -> set[int]:
    """Process ids of the replicas of one command, never another's."""
    found = set()
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any("ray::ServeReplica" in word for word in child.cmdline()):
                found.add(child.pid)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


@pytest.mark.parametrize(("gpus", "replicas"), [(2, 3), (1, 3), (4, 2), (3, 8), (0, 2), (2, 2)])
def test_all_replicas_have_room_on_the_gpus(gpus: int, replicas: int) -> None:
    share = _gpu_share(gpus, replicas)
    assert 0 <= share <= 1
    assert share == 0 if not gpus else int(1 / share + 1e-9) * gpus >= replicas


class Load:
    """Threads that ask until told to stop, and what they got."""

    def __init__(self, url: str) -> None:
        self.url, self.stopped = url, threading.Event()
        self.right = 0
        self.lost: list[int] = []
        self.wrong: list[str] = []
        self.threads = [threading.Thread(target=self._ask, args=(name,)) for name in NAMES * 2]

    def expect(self, adapters: dict[str, Path]) -> None:
        self.image = encoded_image(0)
        self.wanted = {name: offline(adapters[name], self.image) for name in NAMES}

    def _ask(self, name: str) -> None:
        with httpx.Client(base_url=self.url, headers=AS_CLIENT, timeout=60) as client:
            while not self.stopped.is_set():
                try:
                    answer = client.post(
                        "/v1/predict", files={"images": self.image}, data={"task": name, "topk": "10"}
                    )
                except httpx.TransportError as error:
                    self.wrong.append(repr(error))
                    continue
                self._judge(name, answer)

    def _judge(self, name: str, answer: httpx.Response) -> None:
        if answer.status_code in REPLICA_LOST:
            self.lost.append(answer.status_code)
            return
        if answer.status_code != 200:
            self.wrong.append(f"{answer.status_code} {answer.text}")
            return
        (row,) = answer.json()["predictions"]
        classes, scores = self.wanted[name]
        differs = [abs(f - w) for f, w in zip(row["scores"], scores, strict=True) if abs(f - w) > CLOSE]
        if tuple(row["classes"]) != classes or differs:
            self.wrong.append(f"{name}: {row}")
        self.right += 1

    def wait_for(self, more: int) -> None:
        """Until so many more answers are right."""
        wanted, end = self.right + more, time.monotonic() + 60
        while self.right < wanted:
            assert time.monotonic() < end, (self.right, self.lost, self.wrong[:3])
            time.sleep(0.02)


def test_a_killed_replica_is_replaced_while_requests_go_on(adapters: dict[str, Path]) -> None:
    words = [str(adapters[name]) for name in NAMES]
    command = [sys.executable, "-m", "e2vpt", "serve", *words, "--engine", "ray", "--replicas", "2"]
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with started([*command, "--port", "0"], inherited | {"E2VPT_TOKEN": TOKEN}) as (url, process):
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        assert httpx.get(f"{url}/v1/tasks").status_code == 401
        assert httpx.delete(f"{url}/v1/tasks/task0", headers=AS_CLIENT).status_code == 403
        before = replicas_below(process)
        assert len(before) == 2
        load = Load(url)
        load.expect(adapters)
        for thread in load.threads:
            thread.start()
        try:
            load.wait_for(30)
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            load.wait_for(30)
            end = time.monotonic() + 90
            while len(now := replicas_below(process) - {victim}) < 2:
                assert time.monotonic() < end, f"{now} of {before}"
                time.sleep(0.2)
            load.wait_for(30)
        finally:
            load.stopped.set()
            for thread in load.threads:
                thread.join()
        assert not load.wrong, load.wrong[:3]
        assert len(load.lost) <= len(load.threads) * 4, load.lost
        process.terminate()
        assert process.wait(90) == 0
        assert not psutil.pid_exists(max(before))
