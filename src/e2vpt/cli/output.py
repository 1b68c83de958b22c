"""Results on stdout: for people, or for the next program."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2vpt.benchmarks.spread import spread
from e2vpt.config.fields import to_dict
from e2vpt.errors import visible
from e2vpt.files.atomic import spreadsheet_text
from e2vpt.runs.progress import console, per_block, percent

if TYPE_CHECKING:
    from e2vpt.adapters.info import AdapterInfo
    from e2vpt.insight.reports.measured import Measured
    from e2vpt.insight.reports.report import RunReport
    from e2vpt.runs.folders.tried import Tried
    from e2vpt.runs.models.predict import Prediction
    from e2vpt.runs.protocol import ProtocolRow
    from e2vpt.search.space import TrialResult

_FEW_CLASSES = 12


def print_json(predictions: Iterable[Prediction]) -> int:
    """A JSON object a line, with the same keys for every image; how many images could not be read."""
    failed = 0
    for p in predictions:
        failed += bool(p.error)
        print(json.dumps(dataclasses.asdict(p) | {"error": p.error or None}), flush=True)
    return failed


def print_csv(
    predictions: Iterable[Prediction], *, separator: str = ",", for_spreadsheets: bool = False
) -> int:
    """A row for each rank; how many images could not be read.

    Spreadsheets know UTF-8 by a byte order mark, and take a text that begins like a formula for one, unless
    an apostrophe stands before it.
    """
    failed = 0

    def text(cell: str) -> str:
        return spreadsheet_text(cell) if for_spreadsheets else cell

    if for_spreadsheets:
        print("\ufeff", end="")
    writer = csv.writer(sys.stdout, delimiter=separator, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "score", "error"])
    for p in predictions:
        failed += bool(p.error)
        if p.error:
            writer.writerow([text(p.file), "", "", "", text(p.error)])
        for rank, (name, score) in enumerate(zip(p.classes, p.scores, strict=True), 1):
            writer.writerow([text(p.file), rank, text(visible(name)), f"{score:.6f}", ""])
    return failed


def print_text(predictions: Iterable[Prediction]) -> int:
    """A line for each image, unreadable ones on stderr; how many those were."""
    failed = 0
    for p in predictions:
        failed += bool(p.error)
        if p.error:
            console.print(f"[bold red]unreadable:[/] {escape(p.file)}: {escape(p.error)}", soft_wrap=True)
        else:
            ranked = ", ".join(
                f"{visible(name)} {score:.1%}" for name, score in zip(p.classes, p.scores, strict=True)
            )
            print(f"{p.file}: {ranked}", flush=True)
    return failed


def plain(info: AdapterInfo) -> dict[str, Any]:
    """What `e2vpt info --json` prints."""
    nested = {
        "preprocessing": info.preprocessing.to_dict(),
        "prompts": to_dict(info.prompts),
        "options": to_dict(info.options),
    }
    return {f.name: nested.get(f.name, getattr(info, f.name)) for f in dataclasses.fields(info)}


_BESIDE = {
    "bias": "every bias of the backbone",
    "norm": "every norm of the backbone",
    "gamma": "every bias and norm of the backbone",
    "scale": "every bias of the backbone, and a scale for every output of its linear layers",
}


def describe(info: AdapterInfo) -> str:
    """An adapter in words, one fact a line."""
    classes = ", ".join(map(visible, info.classes[:8])) + (", ..." if len(info.classes) > 8 else "")
    has_prompts = any((*info.num_visual, *info.num_kv)) or info.method == "linear"
    where = "in prompts" if has_prompts and info.options.beside == "none" else "tuned"
    rows = {
        "method": info.method,
        "backbone": f"{info.backbone or 'without a name'} (weights {info.fingerprint[:12]})",
        "image size": f"{info.preprocessing.image_size[0]} x {info.preprocessing.image_size[1]}",
        "classes": f"{len(info.classes)}: {classes}",
        **(_prompts(info) if has_prompts else {}),
        **({"beside": _BESIDE[info.options.beside]} if info.options.beside in _BESIDE else {}),
        "parameters": f"{info.num_tuned} {where}, {info.num_head} in the head",
        "file": f"{info.bytes} bytes, {info.precision}{', with the backbone' if info.bundled else ''}",
    }
    rows |= {name.replace("_", " "): _figure(name, value) for name, value in info.metrics.items()}
    return "\n".join(f"{visible(name):18} {visible(value)}" for name, value in rows.items())


def _figure(name: str, value: float) -> str:
    return percent(value) if name.endswith("accuracy") else f"{value:.4g}"


def _prompts(info: AdapterInfo) -> dict[str, str]:
    return {
        "visual prompts": f"{per_block(info.num_visual)}, {info.visual_kept:.0%} of their elements kept",
        "key-value prompts": per_block(info.num_kv),
        **({"attention": info.prompts.attention} if info.prompts.attention != "joint" else {}),
    }


def print_measured(measured: Sequence[Measured], classes: Sequence[str]) -> None:
    """Accuracy on images that were set aside, on stdout; of every class where there are few."""
    from e2vpt.insight.reports.mistakes import confusion

    for m in measured:
        word = "test accuracy" if m.split == "test" else "val accuracy"
        print(f"{word:18} {percent(m.metrics.accuracy)} of {m.metrics.num_images} images")
    test = next((m for m in measured if m.split == "test"), None)
    if test is None:
        print(f"{'test accuracy':18} not measured: no test images were set aside")
    elif len(classes) <= _FEW_CLASSES:
        table = confusion(test)
        for name, right, images in zip(
            classes, table.diagonal().tolist(), table.sum(1).tolist(), strict=True
        ):
            share = percent(right / images) if images else "no images"
            print(f"  {visible(name):16} {share:>6}{f' of {images}' if images else ''}")


def print_temperature(report: RunReport) -> None:
    """What came of --calibrate, on stdout."""
    stored = report.info.metrics.get("temperature")
    text = "none stored: there are no validation images, or too few of them are right or wrong for one to fit"
    print(f"{'temperature':18} {text if stored is None else f'{stored:.4g}, stored in the adapter'}")


def print_tried(rows: Sequence[Tried], *, has_val: bool = True) -> None:
    """The prunings that were looked at, on stdout: what was kept, and what it cost."""
    table = Table(title=f"Pruning, on {'validation' if has_val else 'the training'} images")
    for column in ("prompts", "kept", "parameters", "bytes", "accuracy", "loss"):
        table.add_column(column, justify="left" if column == "prompts" else "right", no_wrap=True)
    for row in rows:
        name = "all" if row.stage == "unpruned" else f"{row.tokens:.0%} x {row.segments:.0%} {row.stage}"
        style = "bold" if row.chosen else None
        figures = (f"{row.kept:.0%}", f"{row.num_tuned:,}", f"{row.bytes:,}")
        table.add_row(
            f"{name} *" if row.chosen else name,
            *figures,
            percent(row.accuracy),
            f"{row.loss:.3f}",
            style=style,
        )
    table.caption = "tokens x segments; trial: not trained again; * chosen"
    Console(highlight=False).print(table)


def print_trials(results: Sequence[TrialResult]) -> None:
    """The trials of a search on stdout, best first."""
    table = Table(title="Trials, on validation images")
    for column in ("trial", "lr", "decay", "prompts", "init", "keep", "accuracy", "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    for r in results:
        counts = f"{r.num_visual} + {r.num_kv}"
        what = (f"{r.lr:.2g}", f"{r.weight_decay:.1g}", counts, r.init, f"{r.keep:.0%}")
        figures = (percent(r.accuracy), f"{r.loss:.3f}") if r.state == "complete" else (r.state, "")
        table.add_row(r.name, *what, *figures)
    Console(highlight=False).print(table)


def print_final(rows: Sequence[ProtocolRow]) -> None:
    """What the paper's protocol chose and reached, on stdout."""
    final = [row for row in rows if row["stage"] == "final"]
    one = final[0]
    print(f"{'trainings':18} {len(rows)}, {sum(row['epochs'] for row in rows)} epochs")
    print(f"{'chosen':18} learning rate {one['lr']:g}, weight decay {one['weight_decay']:g}")
    print(f"{'':18} {one['tokens']:.0%} of tokens, {one['segments']:.0%} of segments, {one['kept']:.0%} kept")
    scores = [100 * row["test_accuracy"] for row in final if "test_accuracy" in row]
    if scores:
        print(f"{'test accuracy':18} {spread(scores).text(2)} % ({len(scores)} seeds)")
