"""Prompts of each block, by count and depth."""

from __future__ import annotations

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
