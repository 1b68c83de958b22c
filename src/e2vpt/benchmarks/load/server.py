"""The server that is asked: one of this package's own, or one that runs already."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from e2vpt.backbones.load import load_backbone
from e2vpt.benchmarks.speed.tasks import write_adapters
from e2vpt.errors import ConfigError, RunError

_NAMES = 50


def address(url: str) -> tuple[str, int]:
    """Host and port of a plain http address.

    Raises:
        ConfigError: it is none.
    """
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port or parts.path not in ("", "/"):
        raise ConfigError(f"url is {url!r}; expected http://HOST:PORT.")
    return parts.hostname, port


def task_names(url: str, token: str) -> list[str]:
    """The tasks that a server is ready for, 50 at the most.

    Raises:
        RunError: it does not say.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{url.rstrip('/')}/v1/tasks", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)["tasks"]
        return [task["name"] for task in found if task["ready"]][:_NAMES]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{url} does not list its tasks: {error}.") from error


@contextmanager
def own_server(num_tasks: int) -> Iterator[str]:
    """The address of `e2vpt serve` on the demo backbone with so many random tasks, in a process of its own.

    Raises:
        RunError: it does not start.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = load_backbone("demo", num_classes=10).requires_grad_(False)
        write_adapters(backbone, folder, "scale", 10, num_tasks)
        words = [f"task{index}={folder / str(index)}" for index in range(num_tasks)]
        with started([sys.executable, "-m", "e2vpt", "serve", *words, "--port", "0"]) as (url, _):
            yield url


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server that says where it listens on stderr: its address and process, which ends with the block.

    Raises:
        RunError: it does not start.
    """
    with tempfile.NamedTemporaryFile("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env=environment)
        try:
            yield _listening(process, Path(log.name)), process
        finally:
            process.terminate()
            process.wait(60)


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        words = log.read_text().split()
        if "on" in words and words.index("on") + 1 < len(words):
            return words[words.index("on") + 1].rstrip(",.")
        time.sleep(0.05)
    raise RunError(f"The server ended: {log.read_text().strip()}")


def noise_images(side: int, count: int = 4) -> list[bytes]:
    """JPEG files of random pixels."""
    draw, made = np.random.default_rng(0), []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "JPEG")
        made.append(file.getvalue())
    return made
