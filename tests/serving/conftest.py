"""One server for the tests that leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.serving_for_tests import RunningServer, make_adapters, make_service, running_server


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Six tasks' adapter files."""
    return make_adapters(tmp_path_factory.mktemp("adapters"), 6)


@pytest.fixture(scope="module")
def server(adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of all of them, with a store; tests put back what they change."""
    store = tmp_path_factory.mktemp("store")
    with running_server(make_service(adapters, store=store)) as running:
        yield running
