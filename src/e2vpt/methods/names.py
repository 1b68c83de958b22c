"""The methods by name: their own learning rates and prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from e2vpt.config import PromptConfig
from e2vpt.errors import ConfigError

_PeftMethod = Literal["lora", "dora", "loha", "lokr", "oft", "ia3"]
Method = Literal[
    "e2vpt",
    "vpt-deep",
    "vpt-shallow",
    "kv",
    "linear",
    "full",
    "partial",
    "mlp",
    "bias",
    "layernorm",
    "adapter",
    "sidetune",
    _PeftMethod,
]
METHODS: tuple[Method, ...] = get_args(Method)
PEFT_METHODS: tuple[Method, ...] = get_args(_PeftMethod)
"""Those that Hugging Face PEFT puts into the model."""
_OWN_LR: Mapping[str, float] = {
    "linear": 5e-3,
    "full": 3e-4,
    "partial": 3e-3,
    "mlp": 3e-3,
    "bias": 2e-2,
    "layernorm": 2e-2,
    "adapter": 1e-2,
    "sidetune": 1e-2,
    "vpt-shallow": 2e-3,
    "kv": 4e-2,
    **dict.fromkeys(PEFT_METHODS, 1e-2),
    "loha": 3e-2,
    "lokr": 3e-2,
    "ia3": 1e-1,
}


def own_lr(method: str, prompts: PromptConfig) -> float:
    """A method's learning rate for AdamW and batches of 64 (docs/results.md).

    Deep prompts that start from patch tokens bear a higher one than those that start from chance.
    """
    starts = {"e2vpt": prompts.init, "vpt-deep": prompts.init, "kv": prompts.kv_init}
    if starts.get(method) == "patch":
        return 1e-2
    return _OWN_LR.get(method, 5e-3)


def prompts_of(method: str, asked: PromptConfig) -> PromptConfig | None:
    """The prompts of a method, or None for one that has no room for prompts."""
    none: dict[str, Any] = {"num_visual": 0, "num_kv": 0, "visual_depth": "deep", "kv_depth": "deep"}
    none["attention"] = "joint"
    num_kv = asked.num_kv if asked.has_key_value else PromptConfig().num_kv
    only: dict[str, dict[str, Any]] = {
        "e2vpt": {},
        "vpt-deep": {"num_kv": 0, "visual_depth": "deep"},
        "vpt-shallow": {"num_kv": 0, "visual_depth": "shallow", "first_block": 0, "attention": "joint"},
        "kv": {"num_visual": 0, "visual_depth": "deep", "num_kv": num_kv},
        "linear": {**none, "first_block": 0},
    }
    return dataclasses.replace(asked, **only[method]) if method in only else None


def check_method(name: object) -> None:
    """Hold a method to those there are.

    Raises:
        ConfigError: it is none of them.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(f"method is {name!r}; expected one of {', '.join(METHODS)}.")
