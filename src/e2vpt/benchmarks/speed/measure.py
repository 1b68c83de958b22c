"""`e2vpt bench speed`: every way to adapt a backbone beside its plain frozen forward pass (= 1.00).

Its folder holds speed.jsonl, a row for each contestant and mode, kept case by case, so that a killed
measurement goes on; the report is made of that.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from e2vpt.benchmarks.cost import flops, peak_memory, saved_bytes
from e2vpt.benchmarks.machine import machine
from e2vpt.benchmarks.speed.clock import Timing, take_turns
from e2vpt.benchmarks.speed.contestants import Case, Contestant, contestant_names, make_contestants
from e2vpt.benchmarks.speed.names import COMPARED, MODES, Mode, SpeedMethod
from e2vpt.config.fields import check_count, require
from e2vpt.files.atomic import make_folder, read_json_lines, write_json_lines
from e2vpt.prompting.folding import folded

SpeedRow = dict[str, Any]
"""One contestant in one mode: the fields of its Case, mode, method, num_visual, num_kv, num_tuned; seconds,
ratio, ratio_low, ratio_high (time over that of the plain forward pass), images_per_second; gflop (an image),
flop_ratio; peak_mib and saved_mib (allocated by a call; kept for the backward pass); with which rounds,
threads, processor and versions it was measured."""

SPEED_ROWS = "speed.jsonl"
_FIELDS: Mapping[str, type] = {
    **dict.fromkeys(("mode", "method"), str),
    **dict.fromkeys(("num_visual", "num_kv", "num_tuned"), int),
    **{field.name: float for field in dataclasses.fields(Timing)},
    **dict.fromkeys(("images_per_second", "flop_ratio", "peak_mib", "saved_mib"), float),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedConfig:
    """What is measured: all combinations.

    Attributes:
        cases: backbones, precisions, batch sizes.
        methods: beside the plain forward pass.
        num_visual: numbers of visual prompts of prompted contestants.
        num_kv: their key-value prompts.
        modes: inference, or a training step.
        rounds: how often everything is timed.
    """

    cases: Sequence[Case]
    methods: Sequence[SpeedMethod] = COMPARED
    num_visual: Sequence[int] = (5, 10, 50, 100, 200)
    num_kv: int = 5
    modes: Sequence[Mode] = MODES
    rounds: int = 5

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds, 1)
        check_count("num_kv", self.num_kv, 0)
        for count in self.num_visual:
            check_count("num_visual", count, 1)
        for name, kind in (("methods", SpeedMethod), ("modes", Mode)):
            for value in getattr(self, name):
                require(
                    value in get_args(kind),
                    f"{name}: {value!r} is not one of {', '.join(get_args(kind))}.",
                )
        require(bool(self.cases), "There is no case to measure.")


def measure_speed(
    config: SpeedConfig,
    out: Path,
    *,
    on_stage: Callable[[str], None] = lambda text: None,
    on_call: Callable[[int, int], None] = lambda done, total: None,
) -> list[SpeedRow]:
    """Measure every case in every mode, or what is missing of that in `out`; returns all rows.

    `on_call` is told how many calls of how many are done.

    Raises:
        MissingExtra: LoRA without PEFT.
    """
    make_folder(out)
    rows = read_json_lines(out / SPEED_ROWS, _FIELDS)
    cases = [
        (case, [mode for mode in config.modes if not _is_measured(rows, config, case, mode)])
        for case in config.cases
    ]
    count = len(contestant_names(config.methods, config.num_visual)) * (config.rounds + 1)
    total, done = count * sum(len(modes) for _, modes in cases), itertools.count(1)
    for case, modes in cases:
        contestants = (
            make_contestants(case, config.methods, config.num_visual, config.num_kv) if modes else []
        )
        for mode in modes:
            on_stage(f"{case_in_words(dataclasses.asdict(case))}: {mode}")
            measured = _measure(contestants, mode, config.rounds, lambda: on_call(next(done), total))
            rows = [row for row in rows if not _is_of(row, config, case, mode)] + measured
            write_json_lines(out / SPEED_ROWS, rows)
    return [
        row
        for case, mode in itertools.product(config.cases, config.modes)
        for row in rows
        if _is_of(row, config, case, mode)
    ]


def case_in_words(case: Mapping[str, Any]) -> str:
    """The fields of a case, or of a row, as a title."""
    size = "" if case["image_size"] is None else f", {case['image_size']} px"
    depth = "" if case["depth"] is None else f", {case['depth']} blocks"
    name = f"{case['backbone']}{size}{depth}"
    return f"{name}, {case['precision']}, batch {case['batch_size']}, {case['device']}"


def _measure(
    contestants: list[Contestant], mode: Mode, rounds: int, on_call: Callable[[], None]
) -> list[SpeedRow]:
    runs = {_name(one): _run(one, mode) for one in contestants}
    with ExitStack() as stack:
        for one in contestants if mode == "inference" else ():
            stack.enter_context(folded(one.model))
        timings = take_turns(runs, rounds, device=contestants[0].case.device, on_call=on_call)
        plain = flops(runs[_name(contestants[0])])
        return [_row(one, mode, runs[_name(one)], timings[_name(one)], plain, rounds) for one in contestants]


def _run(contestant: Contestant, mode: Mode) -> Callable[[], None]:
    """What is timed: everything is held against the plain forward pass, which has no step.

    Our inference is folded, as it is in `e2vpt predict`; a step computes its tables.
    """
    contestant.model.train(mode == "step")
    return contestant.step if mode == "step" and contestant.method != "plain" else contestant.infer


def _row(
    contestant: Contestant, mode: Mode, run: Callable[[], None], timing: Timing, plain: int, rounds: int
) -> SpeedRow:
    case, count = contestant.case, flops(run)
    is_step = run == contestant.step
    aside = (*contestant.model.parameters(), *contestant.model.buffers(), *contestant.data, contestant.images)
    saved = saved_bytes(contestant.loss, aside) if is_step else 0
    return {
        **dataclasses.asdict(case),
        "mode": mode,
        "method": contestant.method,
        "num_visual": contestant.num_visual,
        "num_kv": contestant.num_kv,
        "num_tuned": contestant.num_tuned,
        **dataclasses.asdict(timing),
        "images_per_second": case.batch_size / timing.seconds,
        "gflop": count / case.batch_size / 1e9,
        "flop_ratio": count / plain,
        "peak_mib": peak_memory(run, case.device) / 2**20,
        "saved_mib": saved / 2**20,
        **_circumstances(case, rounds),
    }


def _circumstances(case: Case, rounds: int) -> dict[str, Any]:
    """With what a case is measured here and now: figures of other machines are no part of one report."""
    found = machine(case.device)
    return {
        "rounds": rounds,
        "threads": found["threads"],
        "processor": found["device"],
        "versions": found["versions"],
    }


def _name(contestant: Contestant) -> str:
    return f"{contestant.method} {contestant.num_visual}"


def _is_measured(rows: list[SpeedRow], config: SpeedConfig, case: Case, mode: Mode) -> bool:
    found = {(row["method"], row["num_visual"]) for row in rows if _is_of(row, config, case, mode)}
    return found >= set(contestant_names(config.methods, config.num_visual))


def _is_of(row: SpeedRow, config: SpeedConfig, case: Case, mode: Mode) -> bool:
    same = (dataclasses.asdict(case) | _circumstances(case, config.rounds)).items() <= row.items()
    return same and row["mode"] == mode and row["num_kv"] in (0, config.num_kv)
