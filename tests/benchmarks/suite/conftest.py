"""Published numbers that small data can meet."""

from __future__ import annotations

import dataclasses

import pytest

from e2vpt.benchmarks.vtab.tasks import VTAB


@pytest.fixture
def _ten_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ten were all the test images that CIFAR-100 has."""
    monkeypatch.setitem(VTAB, "cifar100", dataclasses.replace(VTAB["cifar100"], test_images=10))  # type: ignore[arg-type]
