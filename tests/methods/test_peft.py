"""Settings of PEFT's methods reach its layers."""

from __future__ import annotations

from typing import Any

import pytest
from support.methods_for_tests import made

from e2vpt.config import MethodConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("method", ["lora", "dora", "loha", "lokr"])
@pytest.mark.parametrize(("rank", "alpha", "scale"), [(2, 2, 1.0), (2, 4, 2.0), (4, 2, 0.5)])
def test_updates_are_scaled_by_alpha_over_rank(method: str, rank: int, alpha: int, scale: float) -> None:
    model: Any = made("vit", method, MethodConfig(lora_rank=rank, lora_alpha=alpha))
    layers = [block.attn.qkv for block in model.blocks]
    assert [(layer.r["default"], layer.scaling["default"]) for layer in layers] == [(rank, scale)] * 3
