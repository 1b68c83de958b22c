"""A report says what it was measured on, with no place of this machine in it."""

from __future__ import annotations

import sys

import pytest

from e2vpt.benchmarks import machine as module
from e2vpt.benchmarks.machine import machine, report_head


def test_the_device_is_the_one_that_trains_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_gpu", lambda: "a GPU")
    for device, default, said in [(None, "cuda", True), (None, "cpu", False), ("cpu", "cuda", False)]:
        monkeypatch.setattr(module, "default_device", lambda default=default: default)
        assert (machine(device)["device"] == "a GPU") == said


def test_files_are_named_without_their_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["e2vpt", "compare", "/home/me/pets.tar", "--out", "runs/x"])
    found = machine("cpu")
    assert found["command"] == "e2vpt compare pets.tar --out runs/x"
    assert report_head("Speed", found)[:3] == [
        "# Speed",
        "",
        "* command: e2vpt compare pets.tar --out runs/x",
    ]
