"""Fixtures of every test; tests marked `shared` are skipped, with a reason, where ../shared is absent."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

pytest.register_assert_rewrite("support")  # before it is imported: its asserts say what they compared

from support.ray_for_tests import RayCluster, running_cluster  # noqa: E402

from e2vpt.cli.app import main  # noqa: E402

SHARED = Path(os.environ.get("E2VPT_SHARED") or Path(__file__).resolve().parents[2] / "shared")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    if os.environ.get("E2VPT_REQUIRE_SHARED"):
        raise pytest.UsageError(f"{SHARED} is absent, and E2VPT_REQUIRE_SHARED forbids skipping its tests")
    skip = pytest.mark.skip(reason=f"{SHARED} is absent: no conformance tensors, real weights or tasks")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny models, where a second thread costs up to ten times what it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def e2vpt_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in this process: (exit code, stdout, stderr on one line)."""

    def call(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["e2vpt", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(stdin))))
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())

    return call


@pytest.fixture
def device() -> torch.device:
    """A GPU where there is one; elsewhere the tests marked `gpu` run on the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared; only for tests marked `shared`."""
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """Two local Ray workers, started once; whoever uses them gives their environment to a process."""
    with running_cluster() as cluster:
        yield cluster
