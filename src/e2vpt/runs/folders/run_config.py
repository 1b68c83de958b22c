"""Everything that defines a run, and reading it back from the run's folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from e2vpt.config import RECIPE_PROMPTS, DataConfig, MethodConfig, PromptConfig, TrainConfig
from e2vpt.config.fields import check_choices, from_dict, to_dict
from e2vpt.config.images import TrainOn
from e2vpt.errors import ConfigError, RunError, check_type
from e2vpt.files.paths import look_at
from e2vpt.methods.names import check_method, own_lr
from e2vpt.runs.folders.folder import CONFIG, GRID_FOLDER, is_by_the_paper, kind_of, read_config

_PARTS = {"prompts": PromptConfig, "options": MethodConfig, "data": DataConfig, "train": TrainConfig}
_PLAIN = ("backbone", "weights", "method", "adapter_precision", "source", "recipe")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that defines a run.

    Attributes:
        backbone, weights: as in `load_backbone`.
        method: one of `methods.names.METHODS`.
        prompts: the recipe's unless given: they start from patch tokens of training images.
        options: settings of other methods than prompts, and what is tuned beside a method's own (`beside`).
        train: a learning rate of None becomes the method's own.
        adapter_precision: of the numbers in the adapter file.
        source: where the images came from, as a command was told; for the next command only.
        recipe: the name of the values that a command started from; the values themselves are in the rest.
    """

    backbone: str
    weights: str | None = None
    method: str = "e2vpt"
    prompts: PromptConfig = RECIPE_PROMPTS
    options: MethodConfig = field(default_factory=MethodConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapter_precision: Literal["fp32", "fp16"] = "fp32"
    source: str | None = None
    recipe: str = "default"

    def __post_init__(self) -> None:
        check_method(self.method)
        check_choices(self)
        for name, kind in _PARTS.items():
            check_type(name, getattr(self, name), kind)
        if self.train.lr is None:
            train = dataclasses.replace(self.train, lr=own_lr(self.method, self.prompts))
            object.__setattr__(self, "train", train)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        parts = {name: to_dict(getattr(self, name)) for name in _PARTS}
        return {name: getattr(self, name) for name in _PLAIN} | parts


def saved_run_config(run: str | Path) -> RunConfig:
    """The settings of the run in a folder.

    Raises:
        RunError: there is no run, or its settings cannot be read.
    """
    path = Path(run) / CONFIG
    if look_at(path) == "nothing":
        raise RunError(f"{run} is not a finished run of `e2vpt train`: {path} does not exist.")
    values = read_config(path)
    if kind_of(values) != "run":
        raise RunError(f"{run} holds a {kind_of(values)}, no run, but runs lie below it. Name one.")
    try:
        return RunConfig(
            prompts=from_dict(PromptConfig, values["prompts"]),
            options=from_dict(MethodConfig, values["options"]),
            data=from_dict(DataConfig, values["data"]),
            train=from_dict(TrainConfig, values["train"]),
            **{name: values[name] for name in _PLAIN if name != "recipe" or name in values},
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{path} cannot be used ({error}). Restore it, or start a new run.") from error


def trained_on(run: Path, config: RunConfig) -> TrainOn:
    """The images that the adapter of a run was trained on in the end.

    Raises:
        RunError: the settings of the paper's protocol cannot be read.
    """
    if not is_by_the_paper(run):
        return config.data.train_on
    # Before these settings said so, its final trainings had both.
    return "train" if read_config(run / GRID_FOLDER / CONFIG).get("final_on") == "train" else "train+val"
