"""`e2vpt bench vtab` and `bench fgvc` as a researcher runs them, on small instances in the true formats."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from support import fgvc_for_tests as fgvc
from support.ray_for_tests import RayCluster
from support.vtab_for_tests import write_directory

from e2vpt.adapters.files import read_adapter
from e2vpt.benchmarks.suite import plan as planning
from e2vpt.benchmarks.vtab.tasks import VTAB

FAST = "--backbone demo --image-size 16 --epochs 1 --batch-size 500 --seeds 1"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data directory with all that the 19 tasks need."""
    return write_directory(tmp_path_factory.mktemp("tfds"))


def words(directory: Path, out: Path, more: str) -> list[str]:
    return ["vtab", "--data", str(directory), "--out", str(out), *FAST.split(), *more.split()]


def start(
    directory: Path, out: Path, more: str, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "e2vpt", "bench", *words(directory, out, more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def saved(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "results.csv").open() as file:
        return {(row["task"], row["method"]): row for row in csv.DictReader(file)}


def test_all_tasks_killed_and_gone_on_with_and_on_two_ray_workers(
    e2vpt_command: Command, directory: Path, tmp_path: Path, ray_cluster: RayCluster
) -> None:
    out, methods = tmp_path / "here", "--methods linear"
    first = start(directory, out, methods)
    deadline = time.monotonic() + 300
    while len(list(out.glob("cells/*/*/rows.jsonl"))) < 3 and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*/rows.jsonl")}
    assert 3 <= len(finished) < 19
    # The same by Ray, for some of the cells, while the others are gone on with here.
    some = f"{methods} --tasks dtd,eurosat --jobs 2"
    cluster = start(directory, tmp_path / "ray", some, ray_cluster.environment)
    code, table, said = e2vpt_command("bench", *words(directory, out, methods))
    assert code == 0, said
    assert f"{len(finished)} of 19 cells are there already." in said
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for task in VTAB:
        (line,) = (line for line in table.splitlines() if line.startswith(f"| {task} |"))
        assert all(0 <= float(cell) <= 100 for cell in line.split("|")[2:-1]) and line.count("|") == 3
    for mean in ("natural", "specialized", "structured", "T", "G"):
        assert f"\n| {mean} | " in table
    rows = saved(out)
    assert len(rows) == 19 and {row["source"] for row in rows.values()} == {"tfds"}
    _, said = cluster.communicate(timeout=300)
    assert cluster.returncode == 0, said
    assert saved(tmp_path / "ray") == {
        cell: row for cell, row in rows.items() if cell[0] in ("dtd", "eurosat")
    }


def test_fine_grained_data_sets(e2vpt_command: Command, tmp_path: Path) -> None:
    for name, write in (("CUB_200_2011", fgvc.write_cub), ("OxfordFlowers", fgvc.write_flowers)):
        write(tmp_path / "data" / name)
    flags = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *FAST.split()]
    flags[flags.index("500")] = "8"
    flags += ["--preprocess", "imagenet"]  # the official code's for this benchmark
    code, table, said = e2vpt_command("bench", "fgvc", *flags, "--methods", "linear")
    assert code == 0, said
    assert "# FGVC, images from archives" in table and "| cub-200-2011 |" in table
    assert "| mean |" not in table  # of five data sets, two are there
    kept = json.loads((tmp_path / "out/config.json").read_text())
    assert (kept["final_on"], kept["data"]["preprocess"]) == ("train", "imagenet-crop")
    info = read_adapter(next((tmp_path / "out/cells").rglob("adapter.safetensors")))
    prep = info.preprocessing
    assert (prep.interpolation, prep.crop_mode, prep.crop_pct) == ("bilinear", "center", 0.875)
    code, table, said = e2vpt_command("bench", "fgvc", *flags, "--check")
    assert code == 1 and "published are 200" in table


def test_check_and_plan(
    e2vpt_command: Command, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    code, table, said = e2vpt_command("bench", *words(directory, out, "--check --tasks cifar100,eurosat"))
    assert code == 1 and "Reading cifar100" in said and "Reading dtd" not in said
    assert "| eurosat | tfds | 800 | 200 | 401 | 10 | PNG | differs |" in table
    monkeypatch.setattr(planning, "_LONG", 0.0)  # the first training is long enough
    flags = "--plan --methods linear,e2vpt --tasks dtd,eurosat --batch-size 8"
    code, table, said = e2vpt_command("bench", *words(directory, out, flags))
    assert code == 0, said
    # linear: a training each; e2vpt: two to choose its pruning, two for the seed
    assert "| linear | 2 |" in table and "| e2vpt | 8 |" in table and "| all | 10 |" in table
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--methods magic", "methods: magic; expected some of linear, full"),
        ("--tasks magic --check", "tasks: magic; expected some of cifar100"),
        ("--tasks magic --plan", "tasks: magic; expected some of cifar100"),
        ("--shard 3", "shard is '3'; expected a number and how many there are, as in 3/20"),
        ("--shard 3/2", "shard is 3/2; expected a number from 1 to 2"),
        ("--shard 0/2", "shard is 0/2; expected a number from 1 to 2"),
        ("--protocol paper --label-smoothing 0.2", "label_smoothing has no effect with --protocol paper"),
        ("--keep-ratios 0.5", "keep_ratios has no effect without --protocol paper"),
        ("--protocol paper --tune", "tune has no effect with --protocol paper"),
        ("--protocol paper --keep 0.3", "keep has no effect with --protocol paper"),
        ("--lr 0.1", "lr has no effect in a benchmark"),
        ("--merge nowhere", "nowhere/config.json cannot be read"),
    ],
)
def test_bad_input(e2vpt_command: Command, directory: Path, tmp_path: Path, more: str, message: str) -> None:
    code, _, said = e2vpt_command("bench", *words(directory, tmp_path / "out", more))
    assert code == 1 and message in said


def test_what_is_not_installed_is_said_before_images_are_read(
    e2vpt_command: Command, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for module, more, extra in (
        ("ray", "--methods linear --jobs 2", "ray"),
        ("peft", "--methods lora", "bench"),
        ("matplotlib.figure", "--methods linear", "bench"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        code, _, said = e2vpt_command("bench", *words(directory, out, more))
        assert code == 1 and f"pip install 'e2vpt[{extra}]'" in said, said
        assert not out.exists()


def test_only_vtab_has_sources_to_choose_from(e2vpt_command: Command, directory: Path) -> None:
    assert "--source" in e2vpt_command("bench", "vtab", "--help")[1]
    assert "--source" not in e2vpt_command("bench", "fgvc", "--help-all")[1]
    asked = ("--backbone", "demo", "--data", str(directory), "--source", "tfds")
    code, _, said = e2vpt_command("bench", "fgvc", *asked)
    assert code == 1 and "source has no effect with FGVC" in said


@pytest.mark.parametrize("place", ["x" * 300, "a\0b"])
def test_places_that_cannot_be_looked_at(
    e2vpt_command: Command, directory: Path, tmp_path: Path, place: str
) -> None:
    for kind in ("vtab", "fgvc"):
        for more in ([], ["--check"]):
            code, _, said = e2vpt_command("bench", kind, "--backbone", "demo", "--data", place, *more)
            assert code == 1 and "error: Cannot look at" in said and "\0" not in said
    for flag in ("--out", "--merge", "--weights"):
        code, _, said = e2vpt_command("bench", *words(directory, tmp_path / "out", ""), flag, place)
        assert code in (1, 2) and ("error: " in said or f"Invalid value for '{flag}'" in said)


def test_other_images_are_refused_before_the_table_is_written(e2vpt_command: Command, tmp_path: Path) -> None:
    fgvc.write_cub(tmp_path / "data/CUB_200_2011")
    flags = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--methods", "linear"]
    flags += [
        "--backbone",
        "demo",
        "--image-size",
        "16",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--seeds",
        "1",
    ]
    assert e2vpt_command("bench", "fgvc", *flags)[0] == 0
    table = tmp_path / "out/results.md"
    table.unlink()
    (image, other, *_) = sorted((tmp_path / "data").rglob("*.jpg"))
    image.write_bytes(other.read_bytes())
    code, out, said = e2vpt_command("bench", "fgvc", *flags)
    assert code == 1 and "cub-200-2011 was made with other images: 1 replaced" in said
    assert not out and not table.exists()


def test_the_papers_protocol_leaves_it_to_rows_how_prompts_start(e2vpt_command: Command) -> None:
    asked = ("--backbone", "demo", "--protocol", "paper", "--init", "zeros", "--kv-init", "zeros")
    code, _, said = e2vpt_command("bench", "vtab", *asked)
    assert code == 1 and "Say where the images are" in said


def test_without_data(e2vpt_command: Command) -> None:
    code, _, said = e2vpt_command("bench", "vtab", "--backbone", "demo")
    assert code == 1 and "Say where the images are: --data DIR. docs/benchmarks.md says how" in said
