"""Flags come from the config fields: every field one flag, with its default, type and help."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from e2vpt import DataConfig, GridConfig, MethodConfig, PromptConfig, PruneConfig, SearchConfig, TrainConfig
from e2vpt.cli.flags import CONFIGS, configs_from, parse_counts, parse_numbers, with_config_flags

FIELDS = [field for cls in CONFIGS.values() for field in dataclasses.fields(cls)]


def test_no_two_configs_share_a_field() -> None:
    names = [field.name for field in FIELDS]
    assert len(set(names)) == len(names)
    assert all(field.metadata["help"] for field in FIELDS)


def test_a_command_gets_every_field_and_the_configs_they_make() -> None:
    seen = {}

    @with_config_flags
    def command(
        name: str,
        prompts: PromptConfig,
        options: MethodConfig,
        data: DataConfig,
        train: TrainConfig,
        prune: PruneConfig,
        grid: GridConfig,
        search: SearchConfig,
    ) -> None:
        """Help text."""
        seen.update(
            name=name,
            prompts=prompts,
            options=options,
            data=data,
            train=train,
            prune=prune,
            grid=grid,
            search=search,
        )

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["name", *(field.name for field in FIELDS)]
    defaults = {name: p.default for name, p in parameters.items() if name != "name"}
    assert defaults.pop("num_visual") == "10"
    assert defaults.pop("num_kv") == "5"
    assert command.__doc__ == "Help text."
    assert (defaults.pop("keep_tokens"), defaults["keep_segments"]) == ("", "")
    numbers = ("keep_segments", "base_lrs", "weight_decays", "keep_ratios")
    for name in (*numbers, "lr_range", "weight_decay_range", "keep_choices"):
        defaults[name] = parse_numbers(defaults[name])
    for name in ("final_seeds", "visual_choices", "kv_choices"):
        defaults[name] = parse_counts(defaults[name])
    command(name="x", **defaults, num_visual=(1, 2), num_kv=5, keep_tokens=(0.5,))
    assert seen == {
        "name": "x",
        "prompts": PromptConfig(num_visual=(1, 2)),
        "options": MethodConfig(),
        "data": DataConfig(),
        "train": TrainConfig(),
        "prune": PruneConfig(keep_tokens=(0.5,)),
        "grid": GridConfig(),
        "search": SearchConfig(),
    }
    assert set(configs_from(defaults | {"num_visual": 3, "num_kv": 0, "keep_tokens": ()})) == set(CONFIGS)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_counts_round_trip(counts: list[int]) -> None:
    parsed = parse_counts(",".join(map(str, counts)))
    assert parsed == (counts[0] if len(counts) == 1 else tuple(counts))


@pytest.mark.parametrize("text", ["", "ten", "1,,2", "1;2", "1.5"])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a number, or numbers separated by commas"):
        parse_counts(text)


def test_a_command_without_a_config_has_none_of_its_flags() -> None:
    @with_config_flags
    def command(name: str, prune: PruneConfig) -> None:
        """Help text."""

    wanted = ["name", *(field.name for field in dataclasses.fields(PruneConfig))]
    assert list(inspect.signature(command).parameters) == wanted


@given(st.lists(st.floats(0, 1), max_size=9))
def test_shares_round_trip(shares: list[float]) -> None:
    assert parse_numbers(",".join(map(str, shares))) == tuple(shares)


def test_shares_that_are_none() -> None:
    with pytest.raises(typer.BadParameter, match="expected numbers separated by commas"):
        parse_numbers("half")
