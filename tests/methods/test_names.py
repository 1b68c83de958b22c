"""The methods by name."""

from __future__ import annotations

import dataclasses

import pytest

from e2vpt import PromptConfig
from e2vpt.methods.names import prompts_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_prompts_of_each_method() -> None:
    asked = PromptConfig(num_visual=6, num_kv=2, visual_depth="shallow", dropout=0.1)
    assert prompts_of("e2vpt", asked) == asked
    assert prompts_of("vpt-deep", asked) == dataclasses.replace(asked, num_kv=0, visual_depth="deep")
    assert prompts_of("vpt-shallow", asked) == dataclasses.replace(asked, num_kv=0)
    assert prompts_of("kv", asked) == dataclasses.replace(asked, num_visual=0, visual_depth="deep")
    assert prompts_of("bias", asked) is None
