"""Search by Optuna in this process, its study in SQLite (`search_cluster` does it on a Ray cluster).

What is suggested depends on the finished trials only. So a search that was killed goes on to the very trials
it would have come to, and with the running one from its checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2vpt.config import PruneConfig, SearchConfig
from e2vpt.data import Task
from e2vpt.data.randomness import derived_seed
from e2vpt.errors import MissingExtra, RunError
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.lock import only_one
from e2vpt.runs.prepare import prepare
from e2vpt.runs.reporting import Reporting
from e2vpt.search.space import (
    Stop,
    Suggestion,
    TrialResult,
    best_of,
    check_searchable,
    configured,
    leave_results,
    open_search,
    ranked,
    suggest,
    try_suggestion,
)

if TYPE_CHECKING:
    import optuna

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
        RunError: the folder holds another search, its study cannot be used, or every trial diverged.
        ConfigError: there are no validation images.
    """
    search, prune, out = search or SearchConfig(), prune or PruneConfig(), Path(out)
    reporting = reporting or Reporting()
    optuna = _optuna()
    check_searchable(task, config)
    with only_one(out), _usable_study(optuna, out / STUDY):
        open_search(out, task, config, search, prune, resume=resume)
        return _search(optuna, task, config, out, search, prune, reporting)


def _search(
    optuna: Any,
    task: Task,
    config: RunConfig,
    out: Path,
    search: SearchConfig,
    prune: PruneConfig,
    reporting: Reporting,
) -> list[TrialResult]:
    """What is missing of a search in its folder."""
    study = optuna.create_study(
        storage=f"sqlite:///{out / STUDY}",
        study_name="e2vpt",
        direction="maximize",
        load_if_exists=True,
        pruner=_stopper(search, config.train.epochs),
    )
    for stale in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(stale.number, state=optuna.trial.TrialState.FAIL)
    like = None
    results = _finished(study)
    while len(results) < search.trials:
        name = f"{len(results):03d}"
        seed = derived_seed("search", search.search_seed, len(results)) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=False)
        trial = study.ask()
        tried = suggest(trial, search)
        if like is None:
            like = prepare(task, configured(config, tried))
        reporting.stage(_words(name, search.trials, tried, results))

        def on_epoch(epoch: int, accuracy: float, trial: Any = trial) -> None:
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise Stop

        folder = out / f"trial-{name}"
        result = try_suggestion(
            task, config, prune, tried, folder, like=like, on_epoch=on_epoch, on_step=reporting.on_step
        )
        _tell(study, trial, result)
        results = _finished(study)
        leave_results(out, results)
    leave_results(out, results)
    best_of(results, out)
    return ranked(results)


@contextmanager
def _usable_study(optuna: Any, path: Path) -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        # The last cause is SQLite's own: "database or disk is full", "file is not a database".
        why: BaseException = error
        while why.__cause__ is not None:
            why = why.__cause__
        raise RunError(
            f"{path} cannot be read or written: {why}. Free space and go on with --resume; where the file is "
            "damaged, restore it or choose another --out."
        ) from error


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("Searching needs Optuna: pip install 'e2vpt[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _stopper(search: SearchConfig, epochs: int) -> Any:
    """Stops what is below the median of the finished trials, after a third of an unpruned training."""
    pruners = _optuna().pruners
    if not search.stop_early:
        return pruners.NopPruner()
    return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 3)


def _tell(study: optuna.study.Study, trial: optuna.trial.Trial, result: TrialResult) -> None:
    trial.set_user_attr("result", dataclasses.asdict(result))
    if result.state == "stopped":
        study.tell(trial, state=_optuna().trial.TrialState.PRUNED)
    else:
        study.tell(trial, result.accuracy)


def _finished(study: optuna.study.Study) -> list[TrialResult]:
    """The finished trials, in the order of suggestion; one that was killed has left no result."""
    states = _optuna().trial.TrialState
    done = study.get_trials(deepcopy=False, states=[states.COMPLETE, states.PRUNED])
    return [TrialResult(**trial.user_attrs["result"]) for trial in done]


def _words(name: str, trials: int, tried: Suggestion, results: Sequence[TrialResult]) -> str:
    what = f"learning rate {tried['lr']:.2g}, weight decay {tried['weight_decay']:.2g}, "
    what += f"{tried['num_visual']} + {tried['num_kv']} prompts ({tried['init']}), keep {tried['keep']:.0%}"
    best = f"; best so far {ranked(results)[0].accuracy:.1%}" if results else ""
    return f"Trial {int(name) + 1} of {trials}: {what}{best}"
