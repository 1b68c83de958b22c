"""The comparison: the same tensors for all, resumed case by case, and a report that says all of it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from e2vpt.benchmarks.speed import measure as speed
from e2vpt.benchmarks.speed.contestants import Case, make_contestants
from e2vpt.benchmarks.speed.measure import SpeedConfig, measure_speed
from e2vpt.benchmarks.speed.report import write_report
from e2vpt.errors import ConfigError, RunError
from e2vpt.prompting.parts import classifier

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = (
    "linear",
    "full",
    "bias",
    "lora",
    "carried",
    "carried-fused",
    "e2vpt",
    "e2vpt-bias",
    "e2vpt-scale",
    "late",
)
CASE = Case(backbone="test_vit", batch_size=2, num_classes=5)
CONFIG = SpeedConfig(cases=[CASE], methods=ALL, num_visual=(2, 8), num_kv=3, rounds=1)
FACTS = {"command": "e2vpt bench speed", "device": "some CPU"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_contestants_stand_on_the_same_frozen_tensors(precision: Any) -> None:
    case = dataclasses.replace(CASE, precision=precision)
    made = {(c.method, c.num_visual): c for c in make_contestants(case, ALL, (2, 8), 3)}
    assert list(made) == [
        *((m, 0) for m in ("plain", "linear", "full", "bias", "lora")),
        *(
            (m, p)
            for p in (2, 8)
            for m in ("carried", "carried-fused", "e2vpt", "e2vpt-bias", "e2vpt-scale", "late")
        ),
    ]
    plain = next(p for p in made["plain", 0].model.parameters() if not p.requires_grad)
    for key, one in made.items():
        shares = any(p.data_ptr() == plain.data_ptr() for p in one.model.parameters())
        assert shares == (key[0] != "full"), key
        before = [p.detach().clone() for p in one.model.parameters()]
        one.infer()
        one.step()
        changed = [not torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True)]
        assert changed == [p.requires_grad for p in one.model.parameters()], key
    frozen = made["e2vpt", 8].model.blocks[0].mlp.fc1.weight
    assert frozen.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    assert all(
        p.dtype == torch.float32 for c in made.values() for p in c.model.parameters() if p.requires_grad
    )


def test_tuned_parameters_without_head() -> None:
    made = {(c.method, c.num_visual): c for c in make_contestants(CASE, ALL, (8,), 3)}
    backbone = made["plain", 0].model
    blocks, width = len(backbone.blocks), backbone.embed_dim
    prompts = blocks * (8 + 3) * width
    total = sum(p.numel() for p in backbone.parameters()) - sum(
        p.numel() for p in classifier(backbone).parameters()
    )
    biases = sum(p.numel() for n, p in backbone.named_parameters() if n.endswith(".bias") and "head" not in n)
    hidden = backbone.blocks[0].mlp.fc1.out_features
    lora = blocks * 8 * (width + 3 * width)
    assert {m: c.num_tuned for (m, _), c in made.items()} == {
        "plain": 0,
        "linear": 0,
        "full": total,
        "bias": biases,
        "lora": lora,
        "carried": prompts,
        "carried-fused": prompts,
        "e2vpt": prompts,
        "e2vpt-bias": prompts + biases,
        "e2vpt-scale": prompts + biases + blocks * (5 * width + hidden),
        "late": (blocks - blocks // 2) * (8 + 3) * width,
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_official_form_and_ours_start_with_equal_logits(precision: Any) -> None:
    case = dataclasses.replace(CASE, precision=precision)
    first, *others = make_contestants(case, ALL[4:7], (8,), 3)[1:]
    expected = first.logits(first.images).double()
    for one in others:
        found = one.logits(one.images).double()
        assert (found - expected).abs().max() < (2e-6 if precision == "fp32" else 0.05)
        assert found.abs().max() > 0.1


def test_every_case_is_kept_and_none_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [CASE, dataclasses.replace(CASE, batch_size=1)]
    config = dataclasses.replace(CONFIG, cases=cases, methods=("linear", "e2vpt"))
    real, measured = speed._measure, []

    def stopping(contestants: Any, mode: Any, *rest: Any) -> Any:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append((contestants[0].case.batch_size, mode))
        return real(contestants, mode, *rest)

    monkeypatch.setattr(speed, "_measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_speed(config, tmp_path)
    assert measured == [(2, "inference"), (2, "step"), (1, "inference")]
    monkeypatch.setattr(speed, "_measure", lambda *args: measured.append("last") or real(*args))
    calls: list[tuple[int, int]] = []
    rows = measure_speed(config, tmp_path, on_call=lambda done, total: calls.append((done, total)))
    assert measured[3:] == ["last"] and calls == [(n, 8) for n in range(1, 9)]
    assert [(r["batch_size"], r["mode"], r["method"], r["num_visual"]) for r in rows] == [
        (b, mode, m, p)
        for b in (2, 1)
        for mode in ("inference", "step")
        for m, p in (("plain", 0), ("linear", 0), ("e2vpt", 2), ("e2vpt", 8))
    ]
    # Other numbers of prompts are another question.
    more = dataclasses.replace(config, cases=[CASE], num_visual=(4,), modes=("inference",))
    assert [r["num_visual"] for r in measure_speed(more, tmp_path)] == [0, 0, 4]


def test_figures_of_other_circumstances_are_measured_again(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, methods=("linear",), num_visual=(2,), modes=("inference",), rounds=1)
    measure_speed(config, tmp_path)
    calls: list[int] = []
    measure_speed(config, tmp_path, on_call=lambda done, total: calls.append(done))
    assert not calls
    rows = [
        json.loads(line) | {"threads": "99"} for line in (tmp_path / "speed.jsonl").read_text().splitlines()
    ]
    (tmp_path / "speed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = measure_speed(config, tmp_path, on_call=lambda done, total: calls.append(done))
    assert calls and {row["threads"] for row in found} == {str(torch.get_num_threads())}
    again = measure_speed(dataclasses.replace(config, rounds=2), tmp_path)
    assert {row["rounds"] for row in again} == {2}


def test_damaged_rows_are_named(tmp_path: Path) -> None:
    for content, message in (("{", "cannot be read"), ('{"mode": "step"}', "a row has no method")):
        (tmp_path / "speed.jsonl").write_text(content)
        with pytest.raises(RunError, match=rf"speed\.jsonl .*{message}"):
            measure_speed(CONFIG, tmp_path)


def test_figures_that_do_not_depend_on_the_hour(tmp_path: Path) -> None:
    rows = {(r["mode"], r["method"], r["num_visual"]): r for r in measure_speed(CONFIG, tmp_path)}
    for (mode, method, count), row in rows.items():
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"] and row["seconds"] > 0
        assert (row["saved_mib"] > 0) == (mode == "step" and method != "plain")
        assert row["peak_mib"] >= row["saved_mib"], (mode, method, count)
    for mode in ("inference", "step"):
        assert rows[mode, "plain", 0]["ratio"] == rows[mode, "plain", 0]["flop_ratio"] == 1
        for count in (2, 8):
            ours, official = rows[mode, "e2vpt", count], rows[mode, "carried", count]
            assert ours["flop_ratio"] < official["flop_ratio"]
            assert ours["saved_mib"] <= official["saved_mib"]
    assert rows["step", "linear", 0]["flop_ratio"] < 1.01
    assert rows["step", "late", 8]["flop_ratio"] < 0.6 * rows["step", "e2vpt", 8]["flop_ratio"]
    assert 2.9 < rows["step", "full", 0]["flop_ratio"] < 3.1


def test_the_report_says_all_of_it(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, cases=[CASE, dataclasses.replace(CASE, image_size=224, depth=1)])
    rows = measure_speed(config, tmp_path)
    text = write_report(tmp_path, rows, FACTS)
    assert text == (tmp_path / "speed.md").read_text()
    assert "* command: e2vpt bench speed" in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        f"## test_vit{extra}, fp32, batch 2, cpu: {mode}"
        for extra in ("", ", 224 px, 1 blocks")
        for mode in ("inference", "training step")
    ]
    table = [line for line in text.splitlines() if line.startswith("| ours | 8 |")]
    assert len(table) == 4
    official, ours = (
        next(r for r in rows if (r["mode"], r["method"], r["num_visual"]) == ("inference", m, 8))
        for m in ("carried", "e2vpt")
    )
    assert table[0].endswith(f"| {official['seconds'] / ours['seconds']:.2f} |")
    saved = list(csv.DictReader(io.StringIO((tmp_path / "speed.csv").read_text())))
    assert len(saved) == len(rows) and [float(r["ratio"]) for r in saved] == [r["ratio"] for r in rows]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ("adapter",)}, "methods: 'adapter' is not one of plain, linear"),
        ({"modes": ("train",)}, "modes: 'train' is not one of inference, step"),
        ({"num_visual": (0,)}, "num_visual is 0; expected a whole number of at least 1"),
        ({"rounds": 0}, "rounds is 0"),
        ({"cases": []}, "no case to measure"),
    ],
)
def test_bad_settings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **values)
