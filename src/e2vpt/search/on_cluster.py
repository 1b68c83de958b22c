"""Search on a Ray cluster, by Ray Tune with the same space and the same table.

A trial's run folder lies on storage that all workers share. A worker that dies loses its trial only, and that
trial goes on from its checkpoint on another one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from e2vpt.config import PruneConfig, SearchConfig
from e2vpt.data import Task
from e2vpt.data.randomness import derived_seed
from e2vpt.errors import ConfigError
from e2vpt.files.atomic import write_atomic
from e2vpt.files.paths import look_at
from e2vpt.runs.folders.folder import read_config
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.search.cluster import connect
from e2vpt.search.space import (
    TrialResult,
    damaged_record,
    finished_search,
    opened_search,
    suggest,
    try_suggestion,
)

_RETRIES = 3
"""How often a trial may lose its worker."""

_EXTENT = "ray.json"
"""In a search's folder: how many trials, how many at a time."""
_NEVER = 10**9  # epochs
_RESULT = "result"
"""Of a report: the fields of a TrialResult."""


def search_on_cluster(
    task: Task,
    config: RunConfig,
    out: str | Path,
    *,
    search: SearchConfig | None = None,
    prune: PruneConfig | None = None,
    workers: int = 2,
    resume: bool = False,
) -> list[TrialResult]:
    """Search on the cluster that RAY_ADDRESS names, or on `workers` local processes; best first.

    `out` and the task's images must be reachable for every worker under the same paths.

    Raises:
        MissingExtra: Ray is not installed.
        RunError: the folder holds another search, another process works there, or no trial is complete.
        ConfigError: as `check_extent`.
    """
    # Images may have relative paths: trials stay in the folder the search was started from.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    search, prune, out = search or SearchConfig(), prune or PruneConfig(), Path(out).absolute()
    check_extent(out, search.trials, workers)
    ray, tune = connect(workers), _tune()
    with opened_search(out, task, config, search, prune, resume=resume):
        trainable = tune.with_resources(
            tune.with_parameters(_trial, task=task, base=config, prune=prune, out=out),
            {"cpu": 1, "gpu": 1 if ray.cluster_resources().get("GPU") else 0},
        )
        state = out / "ray"
        if look_at(state) == "folder" and tune.Tuner.can_restore(str(state)):
            tuner = _restored(tune, state, trainable)
        else:
            write_atomic(out / _EXTENT, json.dumps({"trials": search.trials, "workers": workers}).encode())
            tuner = tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    metric="accuracy",
                    mode="max",
                    num_samples=search.trials,
                    max_concurrent_trials=workers,
                    search_alg=_suggester(search),
                    scheduler=_scheduler(search, config.train.epochs),
                    trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
                ),
                run_config=tune.RunConfig(
                    name=state.name,
                    storage_path=str(out),
                    failure_config=tune.FailureConfig(max_failures=_RETRIES),
                    verbose=0,
                ),
            )
        return finished_search(out, _results(tuner.fit()))


def check_extent(out: Path, trials: int, workers: int) -> None:
    """Hold a search that is gone on with to the trials and workers it began with.

    Ray Tune keeps both in its own record, and would go on with those whatever is asked for.

    Raises:
        ConfigError: others are asked for.
        RunError: what it began with cannot be read.
    """
    if look_at(out / _EXTENT) == "nothing":
        return
    asked, saved = {"trials": trials, "workers": workers}, read_config(out / _EXTENT)
    changes = [
        f"{name} {saved.get(name)}, now {asked[name]}" for name in asked if saved.get(name) != asked[name]
    ]
    if changes:
        raise ConfigError(
            f"{out} was begun with {'; '.join(changes)}: Ray Tune cannot change that on the way. Resume with "
            "the same numbers, or search in another --out."
        )


def _restored(tune: Any, state: Path, trainable: Any) -> Any:
    try:
        return tune.Tuner.restore(str(state), trainable, resume_errored=True)
    except Exception as error:  # what Ray raises on damaged files is open-ended
        raise damaged_record(state, error) from error


def _trial(tried: Mapping[str, Any], task: Task, base: RunConfig, prune: PruneConfig, out: Path) -> None:
    """One trial, on whichever worker Ray gives it; a second try goes on in the same folder."""
    name = _tune().get_context().get_trial_id()
    _report(try_suggestion(task, base, prune, tried, out / f"trial-{name}", on_epoch=_report))


def _report(result: TrialResult) -> None:
    """To the scheduler, which compares accuracies at the same epochs, and to whoever reads the results."""
    values = {"accuracy": result.accuracy, "epochs": result.epochs, _RESULT: dataclasses.asdict(result)}
    _tune().report(values)


def _results(grid: Iterable[Any]) -> list[TrialResult]:
    """What all trials found; the last report of one that the scheduler stopped says that it was stopped."""
    reports = [trial.metrics or {} for trial in grid]
    return [TrialResult(**report[_RESULT]) for report in reports if _RESULT in report]


def _tune() -> Any:
    return importlib.import_module("ray.tune")


def _suggester(search: SearchConfig) -> Any:
    engine: Any = importlib.import_module("ray.tune.search.optuna")
    seed = derived_seed("search", search.search_seed) % 2**32
    return engine.OptunaSearch(
        space=functools.partial(_suggest_all, search=search), metric="accuracy", mode="max", seed=seed
    )


def _suggest_all(trial: Any, search: SearchConfig) -> None:
    # Ray takes the values from Optuna's trial, and anything returned as constants beside them.
    suggest(trial, search)


def _scheduler(search: SearchConfig, epochs: int) -> Any:
    schedulers: Any = importlib.import_module("ray.tune.schedulers")
    if not search.stop_early:
        return schedulers.FIFOScheduler()
    return schedulers.MedianStoppingRule(
        time_attr="epochs",
        grace_period=max(1, epochs // 3),
        min_samples_required=5,
        # With too few trials to compare, the rule would otherwise pause the running ones for waiting ones.
        min_time_slice=_NEVER,
    )
