"""What tests of several families need."""

from __future__ import annotations

import pytest
from torch import Tensor

from e2vpt.prompting.prompts import BlockPrompts


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[int, Tensor]:
    """The visual prompts that dropout drew, by id of their layer."""
    draws: dict[int, Tensor] = {}
    original = BlockPrompts.masked_visual

    def record(self: BlockPrompts, batch: int) -> Tensor:
        draws[id(self)] = original(self, batch)
        return draws[id(self)]

    monkeypatch.setattr(BlockPrompts, "masked_visual", record)
    return draws
