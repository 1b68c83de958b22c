"""What is settled before a run begins: which settings, and everything that is cheap to check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from e2vpt.adapters.words import names_problem
from e2vpt.backbones.load import planned_backbone
from e2vpt.backbones.supported import where_to_start
from e2vpt.backbones.weight_files import check_weights_file
from e2vpt.config import DataConfig, PruneConfig, TrainConfig
from e2vpt.config.fields import as_tuple, from_dict
from e2vpt.config.groups import TRAINING, check_effect, configs_from
from e2vpt.config.recipes import RECIPES, recipe_groups
from e2vpt.data import Task, load_task
from e2vpt.errors import ConfigError, DataError, RunError, check_type
from e2vpt.files.paths import look_at
from e2vpt.methods.adapt import adapt
from e2vpt.methods.names import check_method, prompts_of
from e2vpt.runs.folders.folder import CONFIG, PRUNE_FOLDER, is_by_the_paper, read_config
from e2vpt.runs.folders.opening import check_out
from e2vpt.runs.folders.run_config import RunConfig, saved_run_config
from e2vpt.runs.scoring import prunable

_KINDS = (".tar.gz", ".tgz", ".tar", ".zip", ".csv")
_OTHERS = ("method", "weights", "adapter_precision", "recipe")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """A training as it was asked for, checked as far as that is cheap.

    Attributes:
        source: where the images are; absolute, as a resumed run names its images the same.
        config: its settings.
        prune: how to prune; None for one training with everything.
        out: the run folder.
    """

    source: str
    config: RunConfig
    prune: PruneConfig | None
    out: Path


def plan_run(
    source: str | None,
    backbone: str | None,
    out: Path | None,
    given: Mapping[str, Any],
    *,
    resume: bool,
    protocol: str = "fast",
    also: Collection[str] = (),
) -> RunPlan:
    """Settle the settings of a run: those `given`, then those of the run that is resumed, then the recipe's.

    The paper's protocol starts from the paper's recipe.

    `given` holds settings by name, and `method`, `weights`, `adapter_precision`, `recipe`, `prune` (bool);
    `also` names settings of the paper's protocol that were given.

    Raises:
        ConfigError: source or backbone are missing, a setting is unknown, out of range or without effect.
        RunError: there is no run to resume; or `out` cannot be used.
        BackboneError, UnsupportedBackbone, WeightsError: found without reading weights.
    """
    if out is None and source is not None:
        out = _default_out(source)
    saved, saved_prune = _saved(out, protocol) if resume and out is not None else (None, None)
    source = source or (saved.source if saved else None)
    check_type("backbone", backbone, str, NoneType)
    for name in _OTHERS:
        check_type(name, given.get(name), str, PathLike, NoneType)
    check_type("prune", given.get("prune"), bool, NoneType)
    backbone = backbone or (saved.backbone if saved else None)
    if source is None:
        raise ConfigError("Name the images (DATA); only a run that is resumed knows its own.")
    backbone = named_backbone(backbone)
    others = {name: given.get(name, getattr(saved, name, None)) for name in _OTHERS}
    recipe = others["recipe"] or ("paper" if protocol == "paper" else "default")
    own = recipe_groups(recipe)
    groups = {name: getattr(saved, name, own[name]) for name in TRAINING if name != "prune"}
    base = groups | {"prune": saved_prune or own["prune"]}
    method = others["method"] or "e2vpt"
    settings = {name: value for name, value in given.items() if name not in (*_OTHERS, "prune")}
    configs = configs_from(settings, base=base)
    pruning = configs.pop("prune")
    prunes_itself = RECIPES[recipe].get("prune", True) if saved is None else saved_prune is not None
    wanted = given.get("prune", prunes_itself)
    prunes = bool(wanted) and _has_visual(method, configs["prompts"])
    if saved_prune is not None and not prunes:
        raise RunError(
            f"{out} holds a run that is pruned. Go on with it as it is, or train without pruning in another "
            "--out."
        )
    check_effect(
        [*settings, *also],
        configs | {"prune": pruning},
        method=method,
        prunes=prunes or protocol == "paper",
        protocol=protocol,
    )
    _check_images_left(configs["data"], configs["train"], protocol)
    config = RunConfig(
        backbone=backbone,
        weights=None if others["weights"] is None else absolute(str(others["weights"])),
        method=method,
        adapter_precision=others["adapter_precision"] or "fp32",
        recipe=recipe,
        source=absolute(source),
        **configs,
    )
    assert config.source is not None
    assert out is not None  # the source is known, of which it has its name, or the run that is resumed
    check_out(out, resume=resume)
    pruning = pruning if prunes else None
    if pruning is not None:
        pruning.first_epochs(config.train.epochs)
    check_backbone_fits(config, pruning)
    return RunPlan(source=config.source, config=config, prune=pruning, out=out)


def _check_images_left(data: DataConfig, train: TrainConfig, protocol: str) -> None:
    """Refuse what goes by validation images where they are trained on."""
    if data.train_on == "train+val" and (train.patience or protocol == "paper"):
        what = "protocol 'paper' chooses" if protocol == "paper" else "patience stops"
        raise ConfigError(
            f"{what} by validation images, which train_on train+val leaves none of. Leave it out."
        )


def _default_out(source: str) -> Path:
    """runs/ and the name of the data: of the folder, or of the file without what says its kind."""
    if source.startswith("hf:"):
        return Path("runs") / Path(source.removeprefix("hf:")).name
    name = Path(source).expanduser().resolve().name
    kind = next((kind for kind in _KINDS if name.lower().endswith(kind)), "")
    return Path("runs") / (name[: len(name) - len(kind)] or "run")


def named_backbone(name: str | None) -> str:
    """The backbone that was asked for.

    Raises:
        ConfigError: none was; says where to start.
    """
    if name is None:
        raise ConfigError(f"Name the --backbone. {where_to_start()}")
    return name


def check_backbone_fits(config: RunConfig, prune: PruneConfig | None = None) -> None:
    """Hold settings, with `prune` those of pruning too, to the backbone's architecture.

    It is built without memory for its weights.

    Raises:
        BackboneError, UnsupportedBackbone, ConfigError: they do not fit.
        WeightsError: the file of weights is missing or of no known kind.
    """
    if config.weights is not None:
        check_weights_file(Path(config.weights).expanduser())
    model = planned_backbone(config.backbone, num_classes=2, image_size=config.data.image_size)
    # Not everything can be built without memory; what cannot is checked when it is built for good.
    with torch.device("meta"), contextlib.suppress(RuntimeError, NotImplementedError, ImportError):
        adapt(model, config.method, config.prompts, config.options, weights="not read")
        if prune is not None:
            prunable(prune)(model)


def load_checked(plan: RunPlan, progress: Callable[[int, int], None] | None = None) -> Task:
    """The task of a plan; class names that an adapter file could not hold are found before images are read.

    Raises:
        DataError: such a name, or as `load_task`.
    """
    task = load_task(plan.source, plan.config.data, verify=False)
    problem = names_problem(task.classes)
    if problem:
        raise DataError(f"{task.name}: {problem}, and an adapter file could not hold it. Rename the class.")
    return task.decoded(skip=plan.config.data.skip_unreadable, progress=progress)


def absolute(source: str) -> str:
    """A path that means the same from another folder; anything else as it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if look_at(path, DataError) != "nothing" else source


def _saved(out: Path, protocol: str) -> tuple[RunConfig, PruneConfig | None]:
    if look_at(out / CONFIG) == "nothing":
        raise RunError(f"{out} holds no run to go on with. Leave out --resume to begin one there.")
    if protocol == "fast" and is_by_the_paper(out):
        raise RunError(f"{out} holds a run of the paper's protocol. Go on with --protocol paper --resume.")
    pruned = out / PRUNE_FOLDER / CONFIG
    try:
        prune = from_dict(PruneConfig, read_config(pruned)) if look_at(pruned) != "nothing" else None
    except ConfigError as error:
        raise RunError(f"{pruned} cannot be used ({error}). Restore it, or start a new run.") from error
    return saved_run_config(out), prune


def _has_visual(method: str, prompts: Any) -> bool:
    """Whether there are visual prompts that `train` prunes: the paper's method only."""
    check_method(method)
    own = prompts_of(method, prompts)
    return method == "e2vpt" and own is not None and any(as_tuple(own.num_visual))
