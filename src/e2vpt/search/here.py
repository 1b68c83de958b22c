"""Search by Optuna in this process, its study in SQLite (`on_cluster` does it on a Ray cluster).

What is suggested depends on the finished trials only. So a search that was killed goes on to the very trials
it would have come to, and with the running one from its checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2vpt.config import PruneConfig, SearchConfig
from e2vpt.data import Task
from e2vpt.data.randomness import derived_seed
from e2vpt.errors import needs
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import prepare
from e2vpt.runs.reporting import Reporting
from e2vpt.search.space import (
    Stop,
    Suggestion,
    TrialResult,
    configured,
    damaged_record,
    finished_search,
    leave_results,
    opened_search,
    ranked,
    suggest,
    try_suggestion,
)

STUDY = "study.db"


def search_here(
    task: Task,
    config: RunConfig,
    out: str | Path,
    *,
    search: SearchConfig | None = None,
    prune: PruneConfig | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> list[TrialResult]:
    """Search in a folder until it has `search.trials` trials; returns them, best first.

    `config` gives all that is not searched. Images are decoded and preprocessed once for all trials.

    Raises:
        MissingExtra: Optuna is not installed.
        RunError: as `opened_search`; the study cannot be read; or no trial is complete.
        ConfigError: there are no validation images.
    """
    search, prune, out = search or SearchConfig(), prune or PruneConfig(), Path(out)
    reporting, optuna = reporting or Reporting(), import_optuna()
    with opened_search(out, task, config, search, prune, resume=resume), _usable_study(optuna, out / STUDY):
        study = _open_study(optuna, out / STUDY, search, config.train.epochs)
        like, results = None, _finished(optuna, study, out)
        while len(results) < search.trials:
            name = f"{len(results):03d}"
            seed = derived_seed("search", search.search_seed, len(results)) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=False)
            trial = study.ask()
            tried = suggest(trial, search)
            like = like or prepare(task, configured(config, tried))
            reporting.stage(_words(name, search.trials, tried, results))

            def on_epoch(so_far: TrialResult, trial: Any = trial) -> None:
                trial.report(so_far.accuracy, so_far.epochs - 1)
                if trial.should_prune():
                    raise Stop

            result = try_suggestion(
                task,
                config,
                prune,
                tried,
                out / f"trial-{name}",
                like=like,
                on_epoch=on_epoch,
                on_step=reporting.on_step,
            )
            trial.set_user_attr("result", dataclasses.asdict(result))
            stopped = result.state == "stopped"
            study.tell(trial, None if stopped else result.accuracy, _states(optuna)[stopped])
            results = _finished(optuna, study, out)
            leave_results(out, results)
        return finished_search(out, results)


@contextmanager
def _usable_study(optuna: Any, path: Path) -> Iterator[None]:
    """Turn what a full disk raises into an error of ours."""
    from sqlalchemy.exc import SQLAlchemyError  # comes with Optuna

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise damaged_record(path, error) from error


def import_optuna() -> Any:
    """Optuna, which tells only what goes wrong.

    Raises:
        MissingExtra: it is not installed.
    """
    with needs("search", "Searching needs Optuna"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open_study(optuna: Any, path: Path, search: SearchConfig, epochs: int) -> Any:
    """The study of a search, without trials that nobody runs any more.

    Trials below the median of the finished ones are stopped, after a third of an unpruned training.
    """
    from sqlalchemy import URL  # comes with Optuna

    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 3)
    try:
        study = optuna.create_study(
            storage=URL.create("sqlite", database=str(path)).render_as_string(),
            study_name="e2vpt",
            direction="maximize",
            load_if_exists=True,
            pruner=pruner if search.stop_early else optuna.pruners.NopPruner(),
        )
        state = optuna.trial.TrialState
        for stale in study.get_trials(deepcopy=False, states=[state.RUNNING]):
            study.tell(stale.number, state=state.FAIL)
    except Exception as error:  # what a damaged database raises, in three libraries, is open-ended
        raise damaged_record(path, error) from error
    return study


def _states(optuna: Any) -> tuple[Any, Any]:
    """Of a trial that has ended, and of one that was stopped."""
    return optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED


def _finished(optuna: Any, study: Any, out: Path) -> list[TrialResult]:
    """The finished trials, in the order of suggestion; one that was killed has left no result."""
    try:
        done = study.get_trials(deepcopy=False, states=_states(optuna))
        return [TrialResult(**trial.user_attrs["result"]) for trial in done]
    except Exception as error:  # as above
        raise damaged_record(out / STUDY, error) from error


def _words(name: str, trials: int, tried: Suggestion, results: Sequence[TrialResult]) -> str:
    what = f"learning rate {tried['lr']:.2g}, weight decay {tried['weight_decay']:.2g}, "
    what += f"{tried['num_visual']} + {tried['num_kv']} prompts ({tried['init']}), keep {tried['keep']:.0%}"
    best = f"; best so far {ranked(results)[0].accuracy:.1%}" if results else ""
    return f"Trial {int(name) + 1} of {trials}: {what}{best}"
