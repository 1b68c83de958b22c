"""A report drawn: one HTML file with everything inside it, no script, nothing loaded from anywhere."""

from __future__ import annotations

from e2vpt.errors import visible
from e2vpt.insight.documents import filled
from e2vpt.insight.reports.answers import (
    SPLIT_WORDS,
    calibration_part,
    classes_part,
    label_counts,
    pictures_part,
    split_words,
)
from e2vpt.insight.reports.history import (
    balance_hint,
    class_counts,
    curves,
    files_part,
    pruning_part,
    settings_part,
)
from e2vpt.insight.reports.record import RunRecord, TrainingLog
from e2vpt.insight.reports.report import RunReport
from e2vpt.runs.folders.run_config import trained_on
from e2vpt.runs.progress import per_block


def drawn_report(report: RunReport) -> str:
    """The HTML of a report."""
    names = [visible(name) for name in report.info.classes]
    record, measured = report.record, report.measured
    counts = class_counts(record, names) if record else {}
    counts = counts or label_counts({m.split: m.images for m in measured})
    first = measured[0] if measured else None
    return filled(
        "report.html",
        title=visible(report.name),
        report=report,
        tiles=_tiles(report),
        facts=_facts(report),
        trained_on=_counted(record),
        hint=balance_hint(counts.get("train", {}), names),
        measured_on=split_words(first.split, len(first.images)) if first else "",
        classes=classes_part(first, names, counts) if first else None,
        pictures=pictures_part(first, names) if first else None,
        calibration=calibration_part(first, report.temperature) if first else None,
        trainings=[curves(training) for training in record.trainings] if record else [],
        pruning=pruning_part(record) if record else None,
        settings=settings_part(record) if record else [],
        files=files_part(record) if record else None,
    )


def _counted(record: RunRecord | None) -> str:
    """How many images each split has."""
    splits = [row["split"] for row in record.images] if record else []
    names = [name for name in ("train", "val", "test") if name in splits]
    return ", ".join(f"{splits.count(name):,} {SPLIT_WORDS[name]}" for name in names)


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """The headline figures: name, value, what it is of."""
    tiles = []
    for m in report.measured:
        word = "accuracy" if m.split == "all" else f"{split_words(m.split, 0).split()[1]} accuracy"
        tiles.append((word, f"{m.metrics.accuracy:.1%}", f"of {m.metrics.num_images:,} images"))
    if report.measured:
        first = report.measured[0].metrics
        tiles.append(("mean over classes", f"{first.mean_class_accuracy:.1%}", "every class counts alike"))
    info = report.info
    tiles.append(("tuned parameters", f"{info.num_tuned:,}", f"and {info.num_head:,} in the head"))
    tiles.append(("adapter file", _size(info.bytes), f"{info.bytes:,} bytes"))
    return tiles


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _facts(report: RunReport) -> list[tuple[str, str]]:
    """What was trained on what."""
    info, record = report.info, report.record
    facts = [
        ("Backbone", f"{info.backbone or 'without a name'}, frozen; weights {info.fingerprint[:12]}"),
        ("Method", info.method),
        ("Image size", "{} x {} px".format(*info.preprocessing.image_size)),
        ("Classes", str(len(info.classes))),
        ("Visual prompts", _prompts(info.num_visual)),
        ("Key-value prompts", _prompts(info.num_kv)),
    ]
    if any(info.visual_before):
        facts.append(("Prompt elements kept", f"{info.visual_kept:.0%}"))
    if info.options.beside != "none":
        facts.append(("Tuned beside them", info.options.beside))
    if record is not None:
        facts.insert(0, ("Images", f"{visible(record.task)}: {_counted(record)}"))
        if "val" in {row["split"] for row in record.images}:
            both = trained_on(record.folder, record.config) == "train+val"
            facts.insert(1, ("Trained on", "training and validation images" if both else "training images"))
        facts.append(("Augmentation", record.augment))
        precision = record.config.train.precision
        if precision != "fp32":
            facts.append(("Precision", f"trained in {precision}, epochs below too; measured above in fp32"))
        epochs = ", ".join(_epochs(training, len(record.trainings)) for training in record.trainings)
        facts.append(("Epochs", epochs))
        if record.begun:
            facts.append(("Begun", f"{record.begun}, with e2vpt {visible(record.version)}"))
    if "temperature" in info.metrics:
        facts.append(("Temperature", f"{info.metrics['temperature']:.3f}, stored in the adapter"))
    facts.append(("Adapter file", visible(report.adapter.name)))
    return facts


def _epochs(training: TrainingLog, trainings: int) -> str:
    which = f"with {training.name}; " if trainings > 1 else ""
    return f"{len(training.rows)} ({which}epoch {training.best} was kept)"


def _prompts(counts: tuple[int, ...]) -> str:
    return per_block(counts) if any(counts) else "none"
