"""The command `serve`: what it says, what it refuses, and how it stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.serving_for_tests import encoded_image, make_adapter, make_adapters, offline

from e2vpt.cli.commands.serve import _announcement
from e2vpt.serving.start import named_adapter
from e2vpt.serving.tokens import Tokens

PNG = encoded_image(0)
ADMIN = "an-admin-token-of-this-test"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_adapters(tmp_path_factory.mktemp("adapters"), 3)


class Command:
    """`e2vpt serve` as a process of its own; its stderr line by line."""

    def __init__(self, *words: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "e2vpt", "serve", *map(str, words), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as file:
            for line in file:
                self.lines.append(line.rstrip())

    def url(self) -> str:
        """Where it listens, as soon as it says so."""
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.lines:
                if line.startswith("Listening on "):
                    return line.split()[2].rstrip(".,")
            time.sleep(0.02)
        raise AssertionError("\n".join(self.lines))

    def requests(self) -> list[dict[str, Any]]:
        """The lines of its log that are about requests."""
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in found if line["event"] == "request"]

    def stop(self) -> int:
        """Send SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._reader.join()
        return code


@contextlib.contextmanager
def serving(*words: object, **environment: str) -> Iterator[Command]:
    command = Command(*words, **environment)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.process.kill()
        command.process.wait()
        command._reader.join()


def test_it_says_what_it_serves_answers_and_stops(adapters: dict[str, Path], tmp_path: Path) -> None:
    words = [adapters["task0"], f"pets={adapters['task1']}", "--store", tmp_path / "store"]
    with serving(*words, "--max-wait-ms", 2500, E2VPT_ADMIN_TOKEN=ADMIN) as command:
        url = command.url()
        assert url.startswith("http://127.0.0.1:")
        assert command.lines[0].endswith("for programs on this machine only.")
        assert command.lines[1] == "2 tasks: task0, pets."
        answer = httpx.post(
            f"{url}/v1/predict",
            files={"images": ("a.png", PNG)},
            data={"task": "pets", "topk": "9"},
            timeout=60,
        ).json()
        classes, scores = offline(adapters["task1"], PNG)
        assert answer["predictions"][0]["classes"] == list(classes)
        assert max(map(abs, map(float.__sub__, answer["predictions"][0]["scores"], scores))) < 1e-5
        upload = httpx.put(
            f"{url}/v1/tasks/new",
            content=adapters["task2"].read_bytes(),
            headers={"Authorization": f"Bearer {ADMIN}"},
            timeout=60,
        )
        assert upload.status_code == 201
        as_form = {"Content-Type": "multipart/form-data; boundary=a"}
        assert httpx.post(f"{url}/v1/predict", content=b"--b", headers=as_form, timeout=60).status_code == 400
        # Images in the queue are answered after a signal.
        codes: list[int] = []

        def ask() -> None:
            files = {"images": PNG}
            codes.append(
                httpx.post(f"{url}/v1/predict", files=files, data={"task": "new"}, timeout=60).status_code
            )

        threads = [threading.Thread(target=ask) for _ in range(9)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert not codes
        assert command.stop() == 0
        for thread in threads:
            thread.join()
        assert codes == [200] * 9
    assert command.lines[-1] == "Stopped; everything accepted was answered."
    said = command.lines.index(next(line for line in command.lines if line.startswith("{")))
    assert all(line.startswith("{") for line in command.lines[said:-1])  # a log is lines of JSON
    first = command.requests()[0]
    assert (first["method"], first["path"], first["status"], first["tasks"]) == (
        *("POST", "/v1/predict", 200),
        ["pets"],
    )
    assert ADMIN not in "\n".join(command.lines)


def test_a_signal_under_load_loses_no_accepted_request(adapters: dict[str, Path]) -> None:
    answered: list[int] = []
    with serving(*adapters.values(), "--max-wait-ms", 100) as command:
        url = command.url()

        def ask(task: str) -> None:
            while True:
                try:
                    answer = httpx.post(
                        f"{url}/v1/predict", files={"images": PNG}, data={"task": task}, timeout=60
                    )
                except httpx.TransportError:
                    return  # Not accepted: nobody listens any more.
                answered.append(answer.status_code)

        threads = [threading.Thread(target=ask, args=(name,)) for name in adapters for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(answered) < 40:
            time.sleep(0.01)
        assert command.stop() == 0
        for thread in threads:
            thread.join()
    assert set(answered) == {200}
    # What the server began it finished, and the clients got every answer that it gave.
    assert [line["status"] for line in command.requests()] == answered


Run = Callable[..., tuple[int, str, str]]


def test_what_it_refuses(e2vpt_command: Run, adapters: dict[str, Path], tmp_path: Path) -> None:
    other = make_adapter(tmp_path / "large.safetensors", 1, image_size=64)
    (tmp_path / "empty").write_text("")
    (tmp_path / "admin").write_text(ADMIN)
    (tmp_path / "task0.safetensors").write_bytes(adapters["task0"].read_bytes())
    task0 = str(adapters["task0"])
    for words, reason in [
        ([], "Name it with --backbone"),
        ([str(tmp_path / "nothing")], "does not exist"),
        ([task0, str(other)], "images of"),
        ([task0, str(tmp_path / "task0.safetensors")], "another one has this name already; give NAME=PATH"),
        ([f"../x={task0}"], "does not exist"),
        ([f".x={task0}"], "no dot in front"),
        ([task0, "--max-batch", "0"], "max_batch is 0"),
        ([task0, "--queue", "8"], "max_batch is 32, more than queue, 8"),
        ([task0, "--deadline-s", "0"], "deadline is 0"),
        ([task0, "--token-file", str(tmp_path / "empty")], "holds no token"),
        ([task0, "--store", task0], "no folder"),
        ([task0, "--host", "nowhere.invalid"], "Cannot listen on nowhere.invalid:8000"),
        (["--backbone", "nothing"], "no backbone 'nothing'"),
        ([task0, "--replicas", "2"], "More than one need --engine ray"),
        ([task0, "--engine", "ray", "--store", str(tmp_path / "s")], "would reach one replica only"),
        ([task0, "--engine", "ray", "--admin-token-file", str(tmp_path / "admin")], "one replica only"),
    ]:
        code, out, err = e2vpt_command("serve", *words)
        assert (code, out, reason in err) == (1, "", True), (words, err)


def test_names_of_tasks(adapters: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "a=b" / "pets"
    run.mkdir(parents=True)
    file = run / "adapter.safetensors"
    file.write_bytes(b"x")
    assert named_adapter(str(run)) == ("pets", file)
    assert named_adapter(str(file)) == ("pets", file)
    assert named_adapter(f"x={run}") == ("x", file)
    assert named_adapter(str(adapters["task1"])) == ("task1", adapters["task1"])


def test_what_it_says_of_its_safety() -> None:
    lines = _announcement("http://0.0.0.0:1", ["a"] * 30, Tokens(), local=False).split("\n")
    assert lines[0] == "Listening on http://0.0.0.0:1."
    assert lines[1].endswith(" and 10 more.")
    assert lines[2:] == [
        "Everyone who reaches this address may ask: there is no --token-file.",
        "Nobody may change tasks: there is no --admin-token-file.",
    ]
    safe = _announcement("x", [], Tokens(predict=("a",), admin=("b",)), local=False)
    assert safe.split("\n")[1:] == ["0 tasks: none yet."]


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
def test_a_missing_extra_gives_the_pip_command(
    missing: str, monkeypatch: pytest.MonkeyPatch, e2vpt_command: Run, adapters: dict[str, Path]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "e2vpt.serving.app", raising=False)
    code, _, err = e2vpt_command("serve", str(adapters["task0"]))
    assert code == 1 and err.startswith(
        "error: Serving needs FastAPI and uvicorn: pip install 'e2vpt[serve]' ("
    )


def test_a_store_has_one_server_at_a_time(adapters: dict[str, Path], tmp_path: Path) -> None:
    words = [adapters["task0"], "--store", tmp_path / "store"]
    with serving(*words, E2VPT_ADMIN_TOKEN=ADMIN) as first:
        url = first.url()
        with serving(*words) as second:
            assert second.process.wait(120) != 0
            second._reader.join()
        said = " ".join(second.lines)
        assert "Another process works in" in said
        assert "--store" in said
        assert "Traceback" not in said
        upload = httpx.put(
            f"{url}/v1/tasks/new",
            content=adapters["task2"].read_bytes(),
            headers={"Authorization": f"Bearer {ADMIN}"},
            timeout=60,
        )
        assert upload.status_code == 201
        first.process.kill()  # The system lets go of the lock of a process that dies.
        first.process.wait()
    with serving(*words) as third:
        third.url()
        assert third.lines[1] == "2 tasks: task0, new."
        assert third.stop() == 0
