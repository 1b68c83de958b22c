"""Prompts of each block, by count and depth."""

from __future__ import annotations

from typing import Any

import pytest

from e2vpt.config import PromptConfig
from e2vpt.errors import ConfigError


def test_counts_per_block() -> None:
    assert PromptConfig(num_visual=3).visual_counts(3) == (3, 3, 3)
    assert PromptConfig(num_visual=3, visual_depth="shallow").visual_counts(3) == (3, 0, 0)
    assert PromptConfig(num_kv=(1, 0, 2)).kv_counts(3) == (1, 0, 2)
    assert PromptConfig(num_kv=(1, 4, 2), kv_depth="shallow").kv_counts(3) == (1, 0, 0)
    with pytest.raises(ConfigError, match="num_kv has 3 counts; the backbone has 12 blocks"):
        PromptConfig(num_kv=(1, 0, 2)).kv_counts(12)


@pytest.mark.parametrize("more", [{"visual_depth": "shallow"}, {"pool_prompts": True}])
def test_gated_attention_is_for_prompts_that_stay_in_their_block(more: dict[str, Any]) -> None:
    assert PromptConfig(attention="gated", kv_depth="shallow").attention == "gated"
    with pytest.raises(ConfigError, match="attention 'gated' is for deep prompts that are not pooled"):
        PromptConfig(attention="gated", **more)
