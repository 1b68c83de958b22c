"""A word for those who ask for bf16 where it is emulated, and none where it is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from e2vpt.cli.options import note_slow
from e2vpt.training import bf16


class Products(TorchFunctionMode):
    """Matrix products that take a time of their own on `clock`: the first in a precision, then three more."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0.0
        self.seconds = {
            torch.bfloat16: iter([90.0, 8.0, 6.0, 7.0]),
            torch.float32: iter([50.0, 3.0, 2.0, 4.0]),
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("matmul", "__matmul__", "mm"):
            self.clock += next(self.seconds[args[0].dtype])
        return func(*args, **(kwargs or {}))


def test_the_shortest_try_counts_and_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    products = Products()
    monkeypatch.setattr(bf16, "time", SimpleNamespace(perf_counter=lambda: products.clock))
    with products:
        assert bf16.bf16_slowdown() == 6.0 / 2.0
    assert products.clock == 170.0, "four products in each precision"


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
