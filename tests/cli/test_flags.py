"""Flags come from the config fields: every field one flag, with its default, type and help."""

from __future__ import annotations

import dataclasses
import inspect
from functools import partial
from typing import Annotated, Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from e2vpt import DataConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.cli.flags import FIRST, parse_counts, parse_numbers, with_config_flags, with_recipe_flags
from e2vpt.config import RECIPE_PROMPTS, GridConfig, SearchConfig
from e2vpt.config.groups import GROUPS
from e2vpt.config.recipes import recipe_groups
from e2vpt.errors import ConfigError

FIELDS = [field for config in GROUPS.values() for field in dataclasses.fields(config)]


def called(command: Any, *words: str) -> str:
    """The output of a command that is an application's only one."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(words), catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_every_setting_has_help() -> None:
    assert all(field.metadata["help"] for field in FIELDS)
    assert {field.name for field in FIELDS} >= FIRST


def test_a_command_gets_every_field_and_the_configs_they_make() -> None:
    seen: dict[str, Any] = {}

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
        given: dict[str, Any],
    ) -> None:
        """Help text."""
        seen.update(name=name, given=given, prompts=prompts, options=options, data=data, train=train)
        seen.update(prune=prune, grid=grid, search=search)

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["ctx", "name", *(field.name for field in FIELDS), "help_all"]
    assert command.__doc__ == "Help text."
    called(command, "x")
    assert seen == {"name": "x", "given": {"name": "x"}, **GROUPS}
    called(command, "x", "--num-visual", "1,2", "--keep-tokens", "0.5", "--epochs", "100")
    assert seen == {
        "name": "x",
        "given": {"name": "x", "num_visual": (1, 2), "keep_tokens": (0.5,), "epochs": 100},
        **GROUPS,
        "prompts": dataclasses.replace(RECIPE_PROMPTS, num_visual=(1, 2)),
        "prune": PruneConfig(keep_tokens=(0.5,)),
    }


def test_where_recipes_are_chosen_the_default_one_is_shown() -> None:
    seen: dict[str, Any] = {}

    @with_recipe_flags
    def command(data: DataConfig, search: SearchConfig) -> None:
        seen.update(data=data, search=search)

    called(command)
    assert seen == {"data": recipe_groups("default")["data"], "search": SearchConfig()}
    assert seen["data"].augment == "auto" != DataConfig().augment


def test_help_shows_what_most_people_need_and_all_on_request() -> None:
    @with_config_flags
    def command(train: TrainConfig) -> None:
        """Help text."""

    short, long = called(command, "--help"), called(command, "--help-all")
    names = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(TrainConfig)}
    assert {name for name in names if name in long} == names
    assert {name for name in names if f"{name} " in short} == {
        "--epochs",
        "--batch-size",
        "--lr",
        "--precision",
        "--seed",
    }


def test_a_setting_without_effect_is_shown_nowhere_and_refused() -> None:
    @partial(with_config_flags, idle={"lr": "here"})
    def command(train: TrainConfig) -> None:
        """Help text."""

    assert "--epochs" in called(command, "--help")
    assert not [flag for flag in ("--help", "--help-all") if "--lr" in called(command, flag)]
    with pytest.raises(ConfigError, match="lr has no effect here"):
        called(command, "--lr", "0.1")


def test_a_flag_of_the_command_itself_can_be_without_effect_too() -> None:
    @partial(with_config_flags, idle={"near": "here"})
    def command(train: TrainConfig, near: Annotated[str, typer.Option(help="Where.")] = "") -> None:
        """Help text."""

    assert not [flag for flag in ("--help", "--help-all") if "--near" in called(command, flag)]
    with pytest.raises(ConfigError, match="near has no effect here"):
        called(command, "--near", "a")


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

    wanted = ["ctx", "name", *(field.name for field in dataclasses.fields(PruneConfig)), "help_all"]
    assert list(inspect.signature(command).parameters) == wanted


@given(st.lists(st.floats(0, 1), max_size=9))
def test_shares_round_trip(shares: list[float]) -> None:
    assert parse_numbers(",".join(map(str, shares))) == tuple(shares)


def test_shares_that_are_none() -> None:
    with pytest.raises(typer.BadParameter, match="expected numbers separated by commas"):
        parse_numbers("half")
