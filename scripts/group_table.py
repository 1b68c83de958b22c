"""Means over tasks and groups of tasks, of rows that scripts/ideas.py or `e2vpt compare` wrote.

    python scripts/group_table.py docs/experiments/ideas-vit-tiny-96px.jsonl --figure val
    python scripts/group_table.py final/trials.jsonl --figure test --ours e2vpt
    python scripts/group_table.py ROWS --figure val --families families.json --ours e2vpt

Without `--ours`: a line for each variant (or method). With it: the lead of that row over the best other one.
With `--families`, {"e2vpt": ["scale nokv", ...], "lora": ["lora 1e-2", ...]}, also the lead when the variant
of each family is chosen on all tasks but one and measured on that one, for every task.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

GROUPS = {
    "natural": ("flowers17", "grocery40", "cifar10", "clothing10", "dtd10", "trashnet6"),
    "specialised": ("alphabets8", "signs10", "steel6", "gtsrb43"),
    "structured": ("location9", "orientation8", "count8", "distance6"),
}
TASKS = [task for group in GROUPS.values() for task in group]
Scores = Mapping[str, Mapping[str, float]]
"""Accuracy in % by row and task, a mean over seeds."""


def main() -> None:
    """Print the table that was asked for, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--figure", choices=("val", "test"), required=True)
    parser.add_argument("--epochs", type=int, default=None, help="only rows of so many epochs")
    parser.add_argument("--ours", default=None, help="row, or family, that is held against the others")
    parser.add_argument("--families", type=Path, default=None, help="JSON: family -> its variants")
    asked = parser.parse_args()
    rows = [json.loads(line) for path in asked.rows for line in path.read_text().splitlines()]
    rows = [row for row in rows if asked.epochs is None or row.get("epochs") == asked.epochs]
    scores = accuracies(rows, asked.figure)
    print("\n".join(table(scores)))
    if asked.ours is not None:
        families = (
            json.loads(asked.families.read_text()) if asked.families else {row: [row] for row in scores}
        )
        print(f"\n{verdict(scores, families, asked.ours)}")


def accuracies(rows: Iterable[Mapping[str, Any]], figure: str) -> Scores:
    """Test accuracies of final trainings, or validation accuracies at the best epoch."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        name = row.get("variant") or row["method"]
        if figure == "test" and row["stage"] == "final":
            found[name][row["task"]].append(100 * row.get("accuracy", 0.0))  # 0 where it diverged
        elif figure == "val":
            found[name][row["task"]].append(100 * (row["best"] if "best" in row else row["val_accuracy"]))
    return {
        name: {task: statistics.mean(values) for task, values in by.items()} for name, by in found.items()
    }


def group_means(by_task: Mapping[str, float]) -> list[float | None]:
    """The mean of all tasks, then of each group; None where a task has no figure yet."""
    wanted = [TASKS, *GROUPS.values()]
    return [
        statistics.mean(by_task[task] for task in tasks) if all(task in by_task for task in tasks) else None
        for tasks in wanted
    ]


def table(scores: Scores) -> list[str]:
    """Lines of Markdown, the best mean first; rows that lack tasks last."""
    head = ["row", "tasks", "mean", *GROUPS, *TASKS]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name, by_task in sorted(scores.items(), key=lambda item: -(group_means(item[1])[0] or 0.0)):
        figures = [*group_means(by_task), *(by_task.get(task) for task in TASKS)]
        shown = ["" if figure is None else f"{figure:.1f}" for figure in figures]
        lines.append("| " + " | ".join([name, str(len(by_task)), *shown]) + " |")
    return lines


def verdict(scores: Scores, families: Mapping[str, Sequence[str]], ours: str) -> str:
    """The lead of one family over the best other, chosen on all tasks, and on all but the one measured.

    Variants that lack a task are left out.
    """
    whole = {name: by_task for name, by_task in scores.items() if set(TASKS) <= set(by_task)}
    able = {family: [name for name in names if name in whole] for family, names in families.items()}
    able = {family: names for family, names in able.items() if names}
    chosen = {family: best_of(whole, names, TASKS) for family, names in able.items()}
    peer = best_of(whole, [name for family, name in chosen.items() if family != ours], TASKS)
    leads = [
        mine - theirs
        for mine, theirs in zip(group_means(whole[chosen[ours]]), group_means(whole[peer]), strict=True)
        if mine is not None and theirs is not None
    ]
    groups = ", ".join(f"{group} {lead:+.2f}" for group, lead in zip(GROUPS, leads[1:], strict=True))
    honest = {family: left_out_mean(whole, names) for family, names in able.items()}
    rival = max((family for family in honest if family != ours), key=lambda family: honest[family])
    tried = ", ".join(f"{family} {len(names)}" for family, names in able.items())
    return (
        f"{chosen[ours]} over the best peer, {peer}: {leads[0]:+.2f} ({groups}).\n"
        f"Chosen without the task that is measured: {honest[ours]:.2f}, best peer {rival} "
        f"{honest[rival]:.2f}, {honest[ours] - honest[rival]:+.2f}.\n"
        f"Settings with a figure on every task: {tried}."
    )


def best_of(scores: Scores, names: Sequence[str], tasks: Sequence[str]) -> str:
    """The row with the best mean over some tasks."""
    return max(names, key=lambda name: statistics.mean(scores[name][task] for task in tasks))


def left_out_mean(scores: Scores, names: Sequence[str]) -> float:
    """The mean over tasks of the variant that is best on all others."""
    chosen = {task: best_of(scores, names, [other for other in TASKS if other != task]) for task in TASKS}
    return statistics.mean(scores[name][task] for task, name in chosen.items())


if __name__ == "__main__":
    main()
