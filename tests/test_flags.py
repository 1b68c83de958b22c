"""Flags come from the config fields: every field one flag, with its default, type and help."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from e2vpt import DataConfig, PromptConfig, TrainConfig
from e2vpt.flags import CONFIGS, configs_from, parse_counts, with_config_flags

FIELDS = [field for cls in CONFIGS.values() for field in dataclasses.fields(cls)]


def test_no_two_configs_share_a_field() -> None:
    names = [field.name for field in FIELDS]
    assert len(set(names)) == len(names)
    assert all(field.metadata["help"] for field in FIELDS)


def test_a_command_gets_every_field_and_the_configs_they_make() -> None:
    seen = {}

    @with_config_flags
    def command(name: str, prompts: PromptConfig, data: DataConfig, train: TrainConfig) -> None:
        """Help text."""
        seen.update(name=name, prompts=prompts, data=data, train=train)

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["name", *(field.name for field in FIELDS)]
    defaults = {name: p.default for name, p in parameters.items() if name != "name"}
    assert defaults.pop("num_visual") == "10"
    assert defaults.pop("num_kv") == "5"
    assert command.__doc__ == "Help text."
    command(name="x", **defaults, num_visual=(1, 2), num_kv=5)
    assert seen == {
        "name": "x",
        "prompts": PromptConfig(num_visual=(1, 2)),
        "data": DataConfig(),
        "train": TrainConfig(),
    }
    assert set(configs_from(defaults | {"num_visual": 3, "num_kv": 0})) == set(CONFIGS)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_counts_round_trip(counts: list[int]) -> None:
    parsed = parse_counts(",".join(map(str, counts)))
    assert parsed == (counts[0] if len(counts) == 1 else tuple(counts))


@pytest.mark.parametrize("text", ["", "ten", "1,,2", "1;2", "1.5"])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a number, or numbers separated by commas"):
        parse_counts(text)
