"""Which cells are run by whom, and that nothing is run twice or lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.weights_for_tests import other_demo_weights

from e2vpt import RunConfig, TrainConfig
from e2vpt.benchmarks.suite import run as suite_run
from e2vpt.benchmarks.suite.cell import CELL_ROWS, Protocol, cell_folder
from e2vpt.benchmarks.suite.run import all_rows, cells_of, merge, run_suite
from e2vpt.benchmarks.suite.tasks import Suite
from e2vpt.data import Split, Task
from e2vpt.data.decoding.images import ImageInMemory
from e2vpt.errors import DataError, RunError
from e2vpt.files.atomic import write_json_lines
from e2vpt.runs.reporting import Reporting

SUITE = Suite(
    kind="vtab",
    directory="data",
    source="tfds",
    tasks={"dtd": "natural", "eurosat": "specialized", "dmlab": "structured"},
)
PROTOCOL = Protocol(name="fast", config=RunConfig(backbone="demo"), seeds=1)
METHODS = ["linear", "bias"]
ROW: dict[str, Any] = {"seed": 0, "lr": 0.01, "accuracy": 0.5, "diverged": False, "adapter_bytes": 900}
ROW |= {"num_tuned": 0, "num_head": 30, "tuned_percent": 0.0, "with_head_percent": 0.1}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Cells that were run; their trainings are left out."""
    cells: list[tuple[str, str]] = []

    def run_cell(suite: Suite, protocol: Protocol, task: str, method: str, out: Path, _: Reporting) -> None:
        cells.append((task, method))
        if task == "dmlab" and method == "linear":
            raise DataError("dmlab is broken")
        folder = cell_folder(out, task, method)
        folder.mkdir(parents=True)
        write_json_lines(folder / CELL_ROWS, [ROW | {"task": task, "method": method}])

    monkeypatch.setattr(suite_run, "run_cell", run_cell)
    monkeypatch.setattr(suite_run, "load_suite_task", lambda suite, name, _: task_named(name))
    return cells


def task_named(name: str, images: int = 4) -> Task:
    """A task of noise, always the same for a name and a number of images."""
    random = np.random.default_rng(len(name))
    pixels = random.integers(0, 255, (images, 4, 4, 3), dtype=np.uint8)
    sources = tuple(ImageInMemory(name=f"{i}", pixels=image) for i, image in enumerate(pixels))
    split = Split(images=sources, labels=tuple(i % 2 for i in range(images)))
    return Task(name=name, classes=("a", "b"), train=split)


def test_a_benchmark_is_held_to_its_images_and_weights(
    done: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(SUITE, tasks={"dtd": "natural", "eurosat": "specialized"})
    for index in (1, 2):
        run_suite(small, PROTOCOL, METHODS, tmp_path / str(index), shard=(index, 2))
    weights = other_demo_weights(tmp_path / "other.safetensors")
    other = dataclasses.replace(PROTOCOL, config=RunConfig(backbone="demo", weights=str(weights)))
    with pytest.raises(RunError, match=r"other settings: weights with fingerprint \w{12}, now \w{12}"):
        run_suite(small, other, METHODS, tmp_path / "1", shard=(1, 2))
    # Finished cells are held too, and so are those of another job.
    monkeypatch.setattr(
        suite_run, "load_suite_task", lambda suite, name, _: task_named(name, 5 if name == "dtd" else 4)
    )
    with pytest.raises(RunError, match=r"tasks/dtd was made with other images: 1 new \(4\)"):
        run_suite(small, PROTOCOL, METHODS, tmp_path / "1", shard=(1, 2))
    run_suite(small, PROTOCOL, METHODS, tmp_path / "3", shard=(1, 2))
    assert merge([tmp_path / "1"], tmp_path / "all") == 2
    with pytest.raises(RunError, match=r"tasks/dtd was made with other images: 1 new"):
        merge([tmp_path / "3"], tmp_path / "all")


def test_data_that_cannot_be_read_fail_their_cells_only(
    done: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(suite: Suite, name: str, _: object) -> Task:
        if name == "eurosat":
            raise DataError("eurosat is truncated")
        return task_named(name)

    monkeypatch.setattr(suite_run, "load_suite_task", load)
    small = dataclasses.replace(SUITE, tasks={"dtd": "natural", "eurosat": "specialized"})
    failed = run_suite(small, PROTOCOL, METHODS, tmp_path / "out")
    assert failed == dict.fromkeys([("eurosat", "linear"), ("eurosat", "bias")], "eurosat is truncated")
    assert done == [("dtd", "linear"), ("dtd", "bias")]


def test_a_cell_that_fails_does_not_stop_the_others(done: list[tuple[str, str]], tmp_path: Path) -> None:
    said: list[str] = []
    reporting = Reporting(on_stage=said.append)
    broken = {("dmlab", "linear"): "dmlab is broken"}
    assert run_suite(SUITE, PROTOCOL, METHODS, tmp_path / "out", reporting=reporting) == broken
    assert done == cells_of(SUITE, METHODS) and len(done) == 6
    assert "dtd, bias: 50.0 %, 1 seed" in said and "dmlab, linear: failed" in said
    assert len(all_rows(SUITE, PROTOCOL, METHODS, tmp_path / "out")) == 5
    done.clear()
    assert run_suite(SUITE, PROTOCOL, METHODS, tmp_path / "out", reporting=reporting) == broken
    assert done == [("dmlab", "linear")] and "5 of 6 cells are there already." in said


def test_shares_of_an_array_job_make_the_whole(done: list[tuple[str, str]], tmp_path: Path) -> None:
    whole = dataclasses.replace(SUITE, tasks={"dtd": "natural", "eurosat": "specialized"})
    shares = [cells_of(whole, METHODS, (i, 3)) for i in (1, 2, 3)]
    assert sorted(cell for share in shares for cell in share) == sorted(cells_of(whole, METHODS))
    for index in (1, 2, 3):
        run_suite(whole, PROTOCOL, METHODS, tmp_path / str(index), shard=(index, 3))
    assert len(done) == 4
    assert merge([tmp_path / str(i) for i in (1, 2, 3)], tmp_path / "all") == 4
    assert merge([tmp_path / "1"], tmp_path / "all") == 0
    run_suite(whole, PROTOCOL, METHODS, tmp_path / "all")
    assert len(done) == 4 and len(all_rows(whole, PROTOCOL, METHODS, tmp_path / "all")) == 4


def test_what_does_not_belong_in_one_table_is_refused(done: list[tuple[str, str]], tmp_path: Path) -> None:
    small = dataclasses.replace(SUITE, tasks={"dtd": "natural"})
    out = tmp_path / "out"
    run_suite(small, PROTOCOL, METHODS, out)
    for suite, protocol, what in (
        (dataclasses.replace(small, source="image lists"), PROTOCOL, "source_of_images"),
        (dataclasses.replace(small, kind="fgvc"), PROTOCOL, "kind"),
        (small, dataclasses.replace(PROTOCOL, tune=True), "tune"),
        (small, dataclasses.replace(PROTOCOL, config=changed_epochs()), "epochs 100, now 3"),
    ):
        with pytest.raises(RunError, match=rf"other settings: .*{what}"):
            run_suite(suite, protocol, METHODS, out)
    other = tmp_path / "other"
    shutil.copytree(out, other)
    config: dict[str, Any] = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"source_of_images": "image lists"}))
    with pytest.raises(RunError, match=r"other settings: source_of_images"):
        merge([other], out)
    # More methods and more seeds may come later.
    run_suite(small, dataclasses.replace(PROTOCOL, seeds=1), [*METHODS, "full"], out)
    assert len(done) == 3


def changed_epochs() -> RunConfig:
    return RunConfig(backbone="demo", train=TrainConfig(epochs=3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "rows.jsonl cannot be read"),
        ("[" * 100_000, "rows.jsonl cannot be read"),
        ("3", "rows.jsonl cannot be used: 3 is no row. Restore it"),
        ('{"task": "dtd"}', "rows.jsonl cannot be used: a row has no method. Restore it"),
        (
            json.dumps(ROW | {"task": "dtd", "method": "linear", "accuracy": None}),
            "a row has None as accuracy",
        ),
    ],
)
def test_damaged_rows_are_named(
    content: str, message: str, done: list[tuple[str, str]], tmp_path: Path
) -> None:
    small = dataclasses.replace(SUITE, tasks={"dtd": "natural"})
    run_suite(small, PROTOCOL, ["linear"], tmp_path / "out")
    (cell_folder(tmp_path / "out", "dtd", "linear") / CELL_ROWS).write_text(content)
    with pytest.raises(RunError, match=message):
        run_suite(small, PROTOCOL, ["linear"], tmp_path / "out")
