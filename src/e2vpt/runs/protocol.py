"""The paper's whole protocol (reference.md section 3): what E2VPT's published numbers cost, to be reproduced.

1. grid: learning rate x weight decay, of SGD (of AdamW for some methods, `GridConfig.for_method`); the best
   on validation, ties to the smaller rate.
2. pairs: the best one's prompts scored, every pair of keep ratios rewound and trained again; not for
   methods without pruning.
3. final: the best pair, trained on training and validation images (VTAB-1k) or on training images alone
   (FGVC) from each seed's own initial values.

Every training is a row in trials.jsonl and never done twice; the running one resumes from its checkpoint.
The protocol's own settings are in grid/config.json.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from e2vpt.config import GridConfig, PruneConfig
from e2vpt.config.fields import as_tuple, to_dict
from e2vpt.config.images import TrainOn
from e2vpt.config.recipes import PUBLISHED_START
from e2vpt.data import Task
from e2vpt.errors import ConfigError, Diverged, RunError
from e2vpt.files.atomic import copy_atomic, read_json_lines, write_json_lines
from e2vpt.prompting.folding import folded
from e2vpt.prompting.parts import evaluating
from e2vpt.pruning.applying import visual_kept
from e2vpt.pruning.rewinding import Snapshot, rewind, snapshot
from e2vpt.pruning.selection import Selection, select
from e2vpt.runs.folders.folder import ADAPTER, CHECKPOINT, GRID_FOLDER, LAST
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import Prepared, eval_loader, prepare
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import opened_run, train_into
from e2vpt.runs.scoring import prunable, scores_asked, scores_of
from e2vpt.training.evaluate import evaluate
from e2vpt.training.fit import FitResult
from e2vpt.training.processes import is_first_process

ProtocolRow = dict[str, Any]
"""One finished training: stage, name, lr, weight_decay, tokens, segments, kept, seed, epochs, accuracy and
loss on validation images, test_accuracy (final), diverged."""

PROTOCOL_TRIALS = "trials.jsonl"
_FIELDS = {
    **dict.fromkeys(("stage", "name"), str),
    **dict.fromkeys(("lr", "weight_decay", "tokens", "segments", "kept"), float),
    "seed": int,
    "epochs": int,
    "diverged": bool,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Protocol:
    """What every stage needs."""

    task: Task
    config: RunConfig
    prune: PruneConfig
    grid: GridConfig
    final_on: TrainOn
    out: Path
    reporting: Reporting
    rows: list[ProtocolRow]

    def of(self, stage: str) -> list[ProtocolRow]:
        """The finished trainings of a stage."""
        return [row for row in self.rows if row["stage"] == stage]


def train_by_the_paper(
    task: Task,
    config: RunConfig,
    out: str | Path,
    *,
    prune: PruneConfig | None = None,
    grid: GridConfig | None = None,
    final_on: TrainOn = "train+val",
    published_start: bool = True,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> list[ProtocolRow]:
    """Run the protocol in a folder; `config` gives all but what the grid does. Returns every row.

    Labels are not smoothed, masks are shared by all blocks and the head is rewound too, as in the paper's
    code. With `published_start`, prompts start as published and nothing is tuned beside them unless asked
    for; without, that is as `config` has it: rows of a table differ in it.
    The first seed's final adapter becomes the run's; those of all seeds lie in final/<seed>.

    Raises:
        RunError: every setting of the grid diverged, or as in `train_run`.
        ConfigError: no validation images to choose by, or no visual prompts to prune with those keep ratios.
    """
    out = Path(out)
    if task.val is None or config.data.train_on != "train":
        raise ConfigError(
            "The paper's protocol chooses on validation images; give it some, and train_on=train."
        )
    grid = (grid or GridConfig()).for_method(config.method)
    # Nothing is decided halfway through one of these trainings.
    data = dataclasses.replace(config.data, augment=config.data.augment_at_first)
    config = dataclasses.replace(config, data=data)
    config = _with(config, optimizer=grid.grid_optimizer, label_smoothing=0.0)
    if published_start:
        config = _as_published(config)
    prune = dataclasses.replace(prune or PruneConfig(), masks="shared")
    asked = {"final_on": final_on, **(scores_asked(prune) if grid.keep_ratios else {})}
    parts = {GRID_FOLDER: to_dict(grid) | asked}
    check = prunable(prune) if grid.keep_ratios else lambda model: None
    with opened_run(task, config, out, resume=resume, parts=parts, check=check) as prepared:
        # Epochs of more than a hundred trainings are told to nobody.
        reporting = dataclasses.replace(reporting or Reporting(), on_epoch=None)
        protocol = _Protocol(
            task=prepared.task,
            config=prepared.config,
            prune=prune,
            grid=grid,
            final_on=final_on,
            out=out,
            reporting=reporting,
            rows=read_json_lines(out / PROTOCOL_TRIALS, _FIELDS),
        )
        return _what_is_missing(protocol, prepared)


def _what_is_missing(protocol: _Protocol, prepared: Prepared) -> list[ProtocolRow]:
    """The trainings that the folder does not have yet; returns every row."""
    origin = snapshot(prepared.model)
    best = _grid(protocol, prepared, origin)
    if protocol.grid.keep_ratios:
        selection, pair = _pairs(protocol, prepared, origin, best)
        _final(protocol, selection, pair)
    else:
        _final(protocol, None, best)
    return protocol.rows


def _grid(protocol: _Protocol, prepared: Prepared, origin: Snapshot) -> ProtocolRow:
    """Learning rate and weight decay; afterwards the model holds the best training's prompts."""
    for base, decay in itertools.product(sorted(protocol.grid.base_lrs), protocol.grid.weight_decays):
        rewind(prepared.model, origin)
        lr = base * protocol.config.train.batch_size / 256
        _train(protocol, prepared, {"stage": "grid", "lr": lr, "weight_decay": decay})
        _drop_checkpoints(protocol, "grid", but=_best(protocol.of("grid")))
    best = _best(protocol.of("grid"))
    if best["diverged"]:
        raise RunError(f"Every learning rate of the grid diverged; see {protocol.out / PROTOCOL_TRIALS}.")
    rewind(prepared.model, origin)
    _fit(protocol, prepared, best)
    return best


def _pairs(
    protocol: _Protocol, prepared: Prepared, origin: Snapshot, best: ProtocolRow
) -> tuple[Selection, ProtocolRow]:
    """Keep ratios, with the best of the grid: what stays, and the row that says so."""
    path = protocol.out / "scores.safetensors"
    scores = scores_of(prepared, protocol.prune, path, repr(best), protocol.reporting)
    settings = {name: best[name] for name in ("lr", "weight_decay")}
    for tokens, segments in itertools.product(protocol.grid.keep_ratios, repeat=2):
        rewind(prepared.model, origin, select(scores, tokens=tokens, segments=segments))
        _train(protocol, prepared, {"stage": "pairs", **settings, "tokens": tokens, "segments": segments})
        _drop_checkpoints(protocol, "pairs", but=None)
    pair = _best(protocol.of("pairs"))
    return select(scores, tokens=pair["tokens"], segments=pair["segments"]), pair


def _final(protocol: _Protocol, selection: Selection | None, pair: ProtocolRow) -> None:
    """The chosen settings from each seed's own initial values."""
    config, task = protocol.config, protocol.task
    settings = {name: pair[name] for name in ("lr", "weight_decay", "tokens", "segments")}
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, train_on=protocol.final_on))
    if protocol.final_on == "train+val":  # No validation images are left that patience could go by.
        config = _with(config, patience=0)
    for seed in as_tuple(protocol.grid.final_seeds):
        prepared = prepare(task, _with(config, seed=seed))
        rewind(prepared.model, snapshot(prepared.model), selection)
        _train(protocol, prepared, {"stage": "final", **settings, "seed": seed})
    _drop_checkpoints(protocol, "final", but=None)
    if is_first_process():
        usable = [row["name"] for row in protocol.of("final") if not row["diverged"]]
        if not usable:
            raise RunError(f"Every final training diverged; see {protocol.out / PROTOCOL_TRIALS}.")
        copy_atomic(protocol.out / usable[0] / ADAPTER, protocol.out / ADAPTER)


def _train(protocol: _Protocol, prepared: Prepared, asked: ProtocolRow) -> None:
    """One training from where the model is now, unless its row is there already."""
    seed = prepared.config.train.seed
    row: ProtocolRow = {
        "tokens": 1.0,
        "segments": 1.0,
        "seed": seed,
        "kept": visual_kept(prepared.model),
    } | asked
    row["name"] = _name(row)
    if any(done["name"] == row["name"] for done in protocol.rows):
        return
    total = protocol.grid.num_trainings()
    protocol.reporting.stage(f"Training {len(protocol.rows) + 1} of {total}: {row['name']}")
    try:
        result = _fit(protocol, prepared, row)
    except Diverged:
        row |= {"epochs": prepared.config.train.epochs, "accuracy": 0.0, "loss": None, "diverged": True}
    else:
        best = result.best
        row |= {"epochs": len(result.history), "diverged": False}
        row |= {"accuracy": best.get("val_accuracy"), "loss": best.get("val_loss")}
        if row["stage"] == "final" and protocol.task.test is not None:
            loader = eval_loader(protocol.task.test, prepared.preprocessing, prepared.config)
            with evaluating(prepared.model), folded(prepared.model):
                row["test_accuracy"] = evaluate(prepared.model, loader).accuracy
    protocol.rows.append(row)
    if is_first_process():
        write_json_lines(protocol.out / PROTOCOL_TRIALS, protocol.rows)


def _fit(protocol: _Protocol, prepared: Prepared, row: ProtocolRow) -> FitResult:
    config = _with(prepared.config, lr=row["lr"], weight_decay=row["weight_decay"])
    changed = dataclasses.replace(prepared, config=config)
    folder = protocol.out / row["name"]
    return train_into(changed, folder, resume=True, training=row["name"], reporting=protocol.reporting)


def _name(row: ProtocolRow) -> str:
    """The folder of a training, below the run's."""
    if row["stage"] == "grid":
        return f"grid/lr{row['lr']:g}-wd{row['weight_decay']:g}"
    if row["stage"] == "pairs":
        return f"pairs/{row['tokens']:g}-{row['segments']:g}"
    return f"final/{row['seed']}"


def _best(rows: Sequence[ProtocolRow]) -> ProtocolRow:
    """Highest accuracy; ties to the smaller learning rate, then to fewer prompts, then to the lower loss."""

    def rank(row: ProtocolRow) -> tuple[float, ...]:
        loss = math.inf if row["loss"] is None else cast(float, row["loss"])
        return (row["diverged"], -row["accuracy"], row["lr"], row["kept"], loss)

    return min(rows, key=rank)


def _as_published(config: RunConfig) -> RunConfig:
    beside = "none" if config.options.beside == "auto" else config.options.beside
    return dataclasses.replace(
        config,
        prompts=dataclasses.replace(config.prompts, **PUBLISHED_START),
        options=dataclasses.replace(config.options, beside=beside),
    )


def _with(config: RunConfig, **train: Any) -> RunConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **train))


def _drop_checkpoints(protocol: _Protocol, stage: str, but: ProtocolRow | None) -> None:
    """A finished training needs no checkpoint; a hundred of them would fill a disk."""
    if is_first_process():
        for row in protocol.of(stage):
            for name in (CHECKPOINT, LAST) if row is not but else ():
                (protocol.out / row["name"] / name).unlink(missing_ok=True)
