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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2vpt.config import PruneConfig, SearchConfig
from e2vpt.data import Task
from e2vpt.data.randomness import derived_seed
from e2vpt.files.atomic import make_folder, write_atomic
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.lock import only_one
from e2vpt.search.cluster import connect
from e2vpt.search.space import (
    TrialResult,
    best_of,
    check_searchable,
    leave_results,
    open_search,
    ranked,
    suggest,
    trial_log,
    try_suggestion,
)

_RETRIES = 3
"""How often a trial may lose its worker."""

_NEVER = 10**9  # epochs
_TRIED, _RESULTS = "tried", "results"
"""Folders of one JSON file a trial: what it tries, what it found."""


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
    """
    # Images may have relative paths: trials stay in the folder the search was started from.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    ray, tune = connect(workers), _tune()
    search, prune, out = search or SearchConfig(), prune or PruneConfig(), Path(out).resolve()
    check_searchable(task, config)
    with only_one(out):
        open_search(out, task, config, search, prune, resume=resume)
        return _search(ray, tune, task, config, out, search, prune, workers)


def _search(
    ray: Any,
    tune: Any,
    task: Task,
    config: RunConfig,
    out: Path,
    search: SearchConfig,
    prune: PruneConfig,
    workers: int,
) -> list[TrialResult]:
    """What is missing of a search in its folder."""
    for name in (_TRIED, _RESULTS):
        make_folder(out / name)
    trainable = tune.with_resources(
        tune.with_parameters(_trial, task=task, base=config, prune=prune, out=out),
        {"cpu": 1, "gpu": 1 if ray.cluster_resources().get("GPU") else 0},
    )
    state = out / "ray"
    if state.exists() and tune.Tuner.can_restore(str(state)):
        tuner = tune.Tuner.restore(str(state), trainable, resume_errored=True)
    else:
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
                name="ray",
                storage_path=str(out),
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
                verbose=0,
            ),
        )
    tuner.fit()
    results = _results(out)
    leave_results(out, results)
    best_of(results, out)
    return ranked(results)


def _trial(tried: Mapping[str, Any], task: Task, base: RunConfig, prune: PruneConfig, out: Path) -> None:
    """One trial, on whichever worker Ray gives it; a second try goes on in the same folder."""
    tune = _tune()
    name = tune.get_context().get_trial_id()
    write_atomic(out / _TRIED / f"{name}.json", json.dumps(dict(tried)).encode())

    def on_epoch(epoch: int, accuracy: float) -> None:
        tune.report({"accuracy": accuracy, "epochs": epoch + 1})

    result = try_suggestion(task, base, prune, tried, out / f"trial-{name}", on_epoch=on_epoch)
    write_atomic(out / _RESULTS / f"{name}.json", json.dumps(dataclasses.asdict(result)).encode())
    tune.report({"accuracy": result.accuracy, "epochs": result.epochs})


def _results(out: Path) -> list[TrialResult]:
    """What all trials found; one that the scheduler stopped has not had the time to say so itself."""
    results = []
    for path in sorted((out / _TRIED).glob("*.json")):
        done = out / _RESULTS / path.name
        if done.exists():
            results.append(TrialResult(**json.loads(done.read_text())))
            continue
        rows = trial_log(out / f"trial-{path.stem}")
        if rows:
            stopped = TrialResult(
                name=path.stem,
                state="stopped",
                accuracy=rows[-1]["val_accuracy"],
                loss=rows[-1]["val_loss"],
                epochs=len(rows),
                **json.loads(path.read_text()),
            )
            results.append(stopped)
    return results


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
