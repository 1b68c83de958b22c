"""Means over tasks and groups of tasks, of rows that scripts/ideas.py or `e2vpt compare` wrote.

    python scripts/group_table.py docs/experiments/ideas-vit-tiny-96px.jsonl --figure val
    python scripts/group_table.py docs/experiments/few-images-vit-tiny-96px.jsonl --figure val --shots 8
    python scripts/group_table.py final/trials.jsonl --figure test --ours e2vpt
    python scripts/group_table.py ROWS --figure val --families families.json --ours e2vpt --tasks dtd10,count8

A line for each variant (or method), ± the deviation of its mean over seeds. A seed counts where it has as
many tasks as any other seed of that row. With `--ours`, also the lead of that row (or of one whose name
begins so) over the best other one, seed by seed too. With `--families`, {"e2vpt": ["scale nokv", ...],
"lora": ["lora 1e-2", ...]}, also the lead when the variant of each family is chosen on all tasks but one
and measured on that one, for every task.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

GROUPS = {
    "natural": ("flowers17", "grocery40", "cifar10", "clothing10", "dtd10", "trashnet6"),
    "specialised": ("alphabets8", "signs10", "steel6", "gtsrb43"),
    "structured": ("location9", "orientation8", "count8", "distance6"),
}
TASKS = [task for group in GROUPS.values() for task in group]
ByTask = Mapping[str, float]
Seeds = Mapping[str, Mapping[int, ByTask]]
"""Accuracy in % by row, seed and task."""
Scores = Mapping[str, ByTask]
"""Accuracy in % by row and task, a mean over seeds."""


def main() -> None:
    """Print the table that was asked for, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--figure", choices=("val", "test"), required=True)
    parser.add_argument("--epochs", type=int, default=None, help="only rows of so many epochs")
    parser.add_argument("--shots", type=int, default=None, help="only rows of so many images of a class")
    parser.add_argument("--ours", default=None, help="row, or family, that is held against the others")
    parser.add_argument("--families", type=Path, default=None, help="JSON: family -> its variants")
    parser.add_argument("--tasks", default=",".join(TASKS), help="only these tasks")
    asked = parser.parse_args()
    tasks = [task for task in TASKS if task in asked.tasks.split(",")]
    rows = [json.loads(line) for path in asked.rows for line in path.read_text().splitlines()]
    rows = [row for row in rows if asked.epochs is None or row.get("epochs") == asked.epochs]
    rows = [row for row in rows if row["task"] in tasks and row.get("shots") == asked.shots]
    found = accuracies(rows, asked.figure)
    print("\n".join(table(found, tasks, sizes_of(rows) if asked.figure == "test" else {})))
    if asked.ours is not None:
        families = (
            json.loads(asked.families.read_text()) if asked.families else families_of(found, asked.ours)
        )
        print(f"\n{verdict(found, families, asked.ours, tasks)}")


def accuracies(rows: Iterable[Mapping[str, Any]], figure: str) -> Seeds:
    """Test accuracies of final trainings, or validation accuracies at the best epoch."""
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        name, seed = row.get("variant") or row["method"], row["seed"]
        if figure == "test" and row["stage"] == "final":
            found[name][seed][row["task"]] = 100 * row.get("accuracy", 0.0)  # 0 where it diverged
        elif figure == "val":
            found[name][seed][row["task"]] = 100 * (row["best"] if "best" in row else row["val_accuracy"])
    return {name: _fullest(seeds) for name, seeds in found.items()}


def _fullest(seeds: Mapping[int, ByTask]) -> Mapping[int, ByTask]:
    most = max(map(len, seeds.values()))
    return {seed: by_task for seed, by_task in seeds.items() if len(by_task) == most}


def over_seeds(found: Seeds) -> Scores:
    """Means over seeds, of tasks that all of them have."""
    return {
        name: {
            task: statistics.mean(by_task[task] for by_task in seeds.values())
            for task, count in Counter(task for by_task in seeds.values() for task in by_task).items()
            if count == len(seeds)
        }
        for name, seeds in found.items()
    }


def group_means(by_task: ByTask, tasks: Sequence[str] = TASKS) -> list[float | None]:
    """The mean of all tasks, then of each group; None where a task has no figure yet."""
    wanted = [tasks, *([task for task in group if task in tasks] for group in GROUPS.values())]
    return [
        statistics.mean(by_task[task] for task in some) if some and set(some) <= set(by_task) else None
        for some in wanted
    ]


def table(found: Seeds, tasks: Sequence[str] = TASKS, sizes: Mapping[str, Sequence[str]] = {}) -> list[str]:
    """Lines of Markdown, the best mean first, the best of a column bold; rows that lack tasks last."""
    scores = over_seeds(found)
    order = sorted(scores, key=lambda name: -(group_means(scores[name], tasks)[0] or 0.0))
    figures = {name: [*group_means(scores[name], tasks), *map(scores[name].get, tasks)] for name in order}
    columns = zip(*figures.values(), strict=True)
    best = [max((x for x in column if x is not None), default=None) for column in columns]
    head = ["row", *(["tuned", "rate"] if sizes else []), "seeds", "tasks", "mean", *GROUPS, *tasks]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name in order:
        shown = ["" if figure is None else f"{figure:.1f}" for figure in figures[name]]
        if shown[0] and len(found[name]) > 1:
            shown[0] += f" ± {statistics.stdev(seed_means(found[name], tasks).values()):.1f}"
        shown = [
            f"**{x}**" if x and y == z else x for x, y, z in zip(shown, figures[name], best, strict=True)
        ]
        counts = [str(len(found[name])), str(len(scores[name]))]
        lines.append("| " + " | ".join([name, *sizes.get(name, ()), *counts, *shown]) + " |")
    return lines


def sizes_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Tuned parameters without the head, in the mean (pruning may keep all), and the rate."""
    finals: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row.get("stage") == "final":
            finals[row["method"]].append(row)
    return {
        name: (f"{statistics.mean(row['num_tuned'] for row in found):,.0f}", f"{found[0]['lr']:g}")
        for name, found in finals.items()
    }


def seed_means(seeds: Mapping[int, ByTask], tasks: Sequence[str]) -> dict[int, float]:
    """The mean over tasks of each seed."""
    return {seed: statistics.mean(by_task[task] for task in tasks) for seed, by_task in seeds.items()}


def families_of(names: Iterable[str], ours: str) -> dict[str, list[str]]:
    """Each row for itself, but those that begin with the name of ours are variants of ours."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in names:
        families[ours if name.startswith(ours) else name].append(name)
    return families


def verdict(found: Seeds, families: Mapping[str, Sequence[str]], ours: str, tasks: Sequence[str]) -> str:
    """The lead of one family over the best other, chosen on all tasks, and on all but the one measured.

    Variants that lack a task are left out.
    """
    whole = {name: by_task for name, by_task in over_seeds(found).items() if set(tasks) <= set(by_task)}
    able = {family: [name for name in names if name in whole] for family, names in families.items()}
    able = {family: names for family, names in able.items() if names}
    chosen = {family: best_of(whole, names, tasks) for family, names in able.items()}
    if ours not in chosen or len(chosen) < 2:
        return f"{ours} and a peer with figures on every task are not both there."
    mine, peer = chosen[ours], best_of(whole, [n for family, n in chosen.items() if family != ours], tasks)
    pairs = zip(("", *GROUPS), group_means(whole[mine], tasks), group_means(whole[peer], tasks), strict=True)
    lead, *groups = [(name, a - b) for name, a, b in pairs if a is not None and b is not None]
    own, other = seed_means(found[mine], tasks), seed_means(found[peer], tasks)
    by_seed = ", ".join(f"{own[seed] - other[seed]:+.2f}" for seed in sorted(own.keys() & other.keys()))
    honest = {family: left_out_mean(whole, names, tasks) for family, names in able.items()}
    rival = max((family for family in honest if family != ours), key=lambda family: honest[family])
    tried = ", ".join(f"{family} {len(names)}" for family, names in able.items())
    in_groups = ", ".join(f"{name} {figure:+.2f}" for name, figure in groups)
    return (
        f"{mine} over the best peer, {peer}: {lead[1]:+.2f} ({in_groups}); by seed {by_seed}.\n"
        f"Chosen without the task that is measured: {honest[ours]:.2f}, best peer {rival} "
        f"{honest[rival]:.2f}, {honest[ours] - honest[rival]:+.2f}.\n"
        f"Settings with a figure on every task: {tried}."
    )


def best_of(scores: Scores, names: Sequence[str], tasks: Sequence[str]) -> str:
    """The row with the best mean over some tasks."""
    return max(names, key=lambda name: statistics.mean(scores[name][task] for task in tasks))


def left_out_mean(scores: Scores, names: Sequence[str], tasks: Sequence[str]) -> float:
    """The mean over tasks of the variant that is best on all others."""
    chosen = {task: best_of(scores, names, [other for other in tasks if other != task]) for task in tasks}
    return statistics.mean(scores[name][task] for task, name in chosen.items())


if __name__ == "__main__":
    main()
