"""A word for those who ask for bf16 where it is emulated, and none where it is not."""

from __future__ import annotations

import math

import pytest

from e2vpt.cli.options import note_slow
from e2vpt.training import bf16


def test_the_processor_is_looked_at() -> None:
    assert 0 < bf16.bf16_slowdown() < math.inf


@pytest.mark.parametrize(("slowdown", "said"), [(0.5, False), (3.9, False), (4.0, True), (115.2, True)])
def test_a_note_where_it_is_slow(monkeypatch: pytest.MonkeyPatch, slowdown: float, said: bool) -> None:
    monkeypatch.setattr(bf16, "bf16_slowdown", lambda: slowdown)
    note = bf16.slow_bf16_note()
    assert (note is not None) == said
    assert note is None or (f"{slowdown:.0f} times" in note and "--precision fp32" in note)


def test_the_commands_say_it_to_those_who_ask_for_bf16_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bf16, "bf16_slowdown", lambda: 115.0)
    note_slow("fp32")
    note_slow("bf16", on_cpu=False)
    assert capsys.readouterr().err == ""
    note_slow("bf16", on_cpu=True)
    assert "115 times" in capsys.readouterr().err
