"""The parts of a report that come from a run folder: curves, prunings, class balance, settings, files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from e2vpt.errors import visible
from e2vpt.insight.reports.charts import Dot, Series, line_chart
from e2vpt.insight.reports.record import RunRecord, TrainingLog, settings_of
from e2vpt.pruning.picture import picture

SKEWED = 3
"""From this ratio of the largest to the smallest class on, a report gives a hint."""
_MOST_FILES = 5000


def curves(training: TrainingLog) -> dict[str, Any]:
    """Loss and accuracy of every epoch of one training, as charts and as a table."""
    charts = {}
    for figure, form in (("accuracy", "{:.0%}"), ("loss", "{:.2g}")):
        lines = [
            Series(name=f"{word} {figure}", points=_points(training, f"{key}_{figure}"))
            for key, word in (("train", "training"), ("val", "validation"))
            if f"{key}_{figure}" in training.rows[0]
        ]
        best = lines[-1].points[training.best - 1]
        dot = Dot(x=best[0], y=best[1], text=f"epoch {training.best}, kept")
        title = f"{figure.capitalize()} by epoch of the training '{training.name}'"
        charts[figure] = line_chart(title, "epoch", lines, dots=[dot], form=form.format)
    names = [name for name in training.rows[0] if name not in ("epoch", "lr")]
    rows = [[f"{row['epoch']:.0f}", *(_figure(name, row[name]) for name in names)] for row in training.rows]
    heads = [_head(name) for name in names]
    return {"name": training.name, "best": training.best, "charts": charts, "heads": heads, "rows": rows}


def _points(training: TrainingLog, figure: str) -> list[tuple[float, float]]:
    return [(row["epoch"], row[figure]) for row in training.rows]


def _head(figure: str) -> str:
    split, _, what = figure.partition("_")
    return f"{'validation' if split == 'val' else 'training'} {what}"


def _figure(name: str, value: float) -> str:
    return f"{value:.1%}" if name.endswith("accuracy") else f"{value:.4f}"


def pruning_part(record: RunRecord) -> dict[str, Any] | None:
    """The prunings that were looked at, and what survived; None where nothing was pruned."""
    if not record.tried:
        return None
    dots = [
        Dot(
            x=row.kept,
            y=row.accuracy,
            filled=row.stage != "trial",
            text=f"{row.tokens:.0%} x {row.segments:.0%} {row.stage}: {row.accuracy:.1%}",
        )
        for row in record.tried
    ]
    rows = [
        {
            "name": "all prompts" if row.stage == "unpruned" else f"{row.tokens:.0%} x {row.segments:.0%}",
            "stage": row.stage,
            "kept": f"{row.kept:.0%}",
            "tuned": f"{row.num_tuned:,}",
            "bytes": f"{row.bytes:,}",
            "accuracy": f"{row.accuracy:.1%}",
            "loss": f"{row.loss:.3f}",
            "chosen": row.chosen,
        }
        for row in record.tried
    ]
    title = "Share of visual prompt elements kept against accuracy"
    chart = line_chart(title, "share of prompt elements kept, %", [], dots=_in_percent(dots))
    kept = picture(*record.kept) if record.kept else ""
    has_val = any("val_accuracy" in row for training in record.trainings for row in training.rows)
    return {
        "rows": rows,
        "chart": chart,
        "kept": kept,
        "blocks": _blocks(record),
        "images": "validation" if has_val else "the training",
    }


def _in_percent(dots: Sequence[Dot]) -> list[Dot]:
    return [Dot(x=100 * dot.x, y=dot.y, text=dot.text, filled=dot.filled) for dot in dots]


def _blocks(record: RunRecord) -> list[dict[str, Any]]:
    """What survived in every block, in numbers."""
    if record.kept is None:
        return []
    selection = record.kept[0]
    return [
        {
            "number": number,
            "prompts": f"{int(tokens.sum())} of {len(tokens)}",
            "segments": f"{int(segments.sum())} of {segments.numel()}",
        }
        for number, (tokens, segments) in enumerate(zip(selection.tokens, selection.segments, strict=True), 1)
        if len(tokens)
    ]


def balance_hint(counts: Mapping[int, int], names: Sequence[str]) -> str:
    """A word where some classes have far more training images than others; "" where they do not."""
    if not counts:
        return ""
    (most, many), (fewest, few) = (
        max(counts.items(), key=lambda pair: pair[1]),
        min(counts.items(), key=lambda pair: pair[1]),
    )
    if many < SKEWED * few:
        return ""
    return (
        f"The classes are unbalanced: {names[most]} has {many} training images, {names[fewest]} has {few}. "
        "Compare the accuracy of the small classes below. --class-weights balanced gives them more weight in "
        "training."
    )


def class_counts(record: RunRecord, names: Sequence[str]) -> dict[str, Counter[int]]:
    """Images of each class by split, as the run folder lists them."""
    number = {name: index for index, name in enumerate(names)}
    counts: dict[str, Counter[int]] = {}
    for row in record.images:
        if row["class"] in number:
            counts.setdefault(row["split"], Counter())[number[row["class"]]] += 1
    return counts


def settings_part(record: RunRecord) -> list[dict[str, Any]]:
    """Every setting, in groups."""
    return [
        {"name": name, "rows": [(key, visible(_shown(value))) for key, value in values.items()]}
        for name, values in settings_of(record)
    ]


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def files_part(record: RunRecord) -> dict[str, Any]:
    """The split of every file, as long as there are not too many for a page."""
    rows = [(row["split"], visible(row["class"]), visible(row["file"])) for row in record.images]
    return {"rows": rows[:_MOST_FILES], "more": max(0, len(rows) - _MOST_FILES), "total": len(rows)}
