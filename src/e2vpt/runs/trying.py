"""Prunings of a trained model: each applied to it and evaluated as it is, a row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.config import PruneConfig
from e2vpt.prompting.parts import tuned_parameters
from e2vpt.pruning.applying import num_kept, visual_kept
from e2vpt.pruning.rewinding import Snapshot, rewind
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.selection import Selection, select
from e2vpt.runs.folders.folder import PRUNE_FOLDER
from e2vpt.runs.folders.tried import Tried
from e2vpt.runs.prepare import Prepared, training_images
from e2vpt.runs.run import save_run_adapter
from e2vpt.training.evaluate import evaluate
from e2vpt.training.processes import as_the_first


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PruningTrial:
    """A pruning of trained prompts, and its row."""

    row: Tried
    selection: Selection


def trials_of(
    prepared: Prepared,
    prune: PruneConfig,
    trained: Snapshot,
    scores: Scores,
    pairs: Sequence[tuple[float, float]],
    out: Path,
) -> list[PruningTrial]:
    """Shares of tokens and segments to keep, applied to the trained model; the lowest validation loss first.

    Shares that come to the same are looked at once. The model is left pruned.
    """
    trials: list[PruningTrial] = []
    for tokens, segments in pairs:
        selection = select(scores, tokens=tokens, segments=segments, key_value=prune.keep_kv)
        if not any(_same(selection, trial.selection) for trial in trials):
            trials.append(_on_trial(prepared, trained, selection, (tokens, segments), out))
    return sorted(trials, key=lambda trial: trial.row.loss)


def _on_trial(
    prepared: Prepared, trained: Snapshot, selection: Selection, pair: tuple[float, float], out: Path
) -> PruningTrial:
    rewind(prepared.model, trained, selection)
    path = out / PRUNE_FOLDER / "trial.safetensors"
    size = save_run_adapter(prepared, path, {})
    path.unlink(missing_ok=True)
    return PruningTrial(row=tried_now(prepared, "trial", pair, size=size, epochs=0), selection=selection)


def _same(a: Selection, b: Selection) -> bool:
    """Whether two selections keep the same; other shares may come to that."""
    pairs = zip((*a.segments, *a.key_value), (*b.segments, *b.key_value), strict=True)
    return all(one.equal(other) for one, other in pairs)


def tried_now(prepared: Prepared, stage: str, pair: tuple[float, float], *, size: int, epochs: int) -> Tried:
    """A row of the table for the model as it is now."""
    images = (training_images(prepared) if prepared.val is None else prepared.val).in_order()
    metrics, beside = as_the_first(evaluate(prepared.model, images)), tuned_parameters(prepared.model)
    return Tried(
        stage=stage,
        tokens=pair[0],
        segments=pair[1],
        kept=visual_kept(prepared.model),
        num_tuned=num_kept(prepared.model) + sum(p.numel() for p in beside.values()),
        bytes=size,
        epochs=epochs,
        accuracy=metrics.accuracy,
        loss=metrics.loss,
    )
