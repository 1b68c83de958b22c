"""The command: how many inputs of each type were refused, right, or at fault."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from scripts.mutate import adapters, images, tables, tars, weights
from scripts.mutate.watch import Outcome, Prepare, Wanted, outcomes

KINDS: dict[str, tuple[Prepare, int]] = {
    "adapters": (adapters.prepare, 2500),
    "images": (images.prepare, 500),
    "tars": (tars.prepare, 200),
    "tables": (tables.prepare, 100),
    "weights": (weights.prepare, 100),
}


def tried(wanted: Sequence[Wanted], seed: int, jobs: int) -> list[Outcome]:
    """The outcomes of these inputs, from `jobs` processes."""
    prepare = {kind: KINDS[kind][0] for kind in KINDS}

    def share(first: int) -> list[Outcome]:
        with tempfile.TemporaryDirectory() as folder:
            return list(outcomes(prepare, wanted[first::jobs], seed, Path(folder)))

    with ThreadPoolExecutor(jobs) as pool:
        found = [outcome for part in pool.map(share, range(jobs)) for outcome in part]
    return sorted(found, key=lambda outcome: outcome.index)


def main() -> int:
    """Run the command; the exit code is 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--count", type=int, help="inputs of each type, at the most")
    parser.add_argument("--only", type=int, help="this input alone")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--log", type=Path, help="a file for every outcome, one JSON object a line")
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    wanted = [
        (kind, index)
        for kind in kinds
        for index in range(min(KINDS[kind][1], arguments.count or KINDS[kind][1]))
        if arguments.only in (None, index)
    ]
    found = tried(wanted, arguments.seed, min(arguments.jobs, len(wanted)))
    for kind in kinds:
        print(summary(kind, [outcome for outcome in found if outcome.kind == kind]))
    for outcome in found:
        if outcome.verdict == "fault" or arguments.only is not None:
            print(f"{outcome.kind} {outcome.index}, {outcome.name}: {outcome.verdict}: {outcome.why}")
    if arguments.log:
        arguments.log.write_text("".join(json.dumps(asdict(outcome)) + "\n" for outcome in found))
    return 1 if any(outcome.verdict == "fault" for outcome in found) else 0


def summary(kind: str, found: list[Outcome]) -> str:
    """One line for a kind."""
    count = Counter(outcome.verdict for outcome in found)
    slowest, largest = max(found, key=lambda o: o.seconds), max(found, key=lambda o: o.peak)
    return (
        f"{kind}: {len(found)} inputs, {count['refused']} refused, {count['right']} right, "
        f"{count['fault']} faults; slowest {slowest.seconds:.1f} s ({slowest.index} "
        f"{slowest.name}), largest {largest.peak / 2**20:.0f} MB ({largest.index} {largest.name})"
    )


if __name__ == "__main__":
    raise SystemExit(main())
