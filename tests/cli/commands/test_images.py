"""The command `predict`: its forms of output, unreadable and strange images, other backbones."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from e2vpt.backbones.demo import DEMO_WEIGHTS


def test_predict_json_one_object_per_file(run) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run(
        "predict", "run", "shapes/test/ring/00.png", "shapes/test/bars", "--json", "--topk", "2"
    )
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [Path(p["file"]).parent.name for p in found] == ["ring"] + ["bars"] * 4
    for p in found:
        assert set(p) == {"file", "classes", "scores", "error"}
        assert len(p["classes"]) == len(p["scores"]) == 2
        assert p["scores"] == sorted(p["scores"], reverse=True)
    assert sum(p["classes"][0] == Path(p["file"]).parent.name for p in found) >= 4


def test_predict_csv_text_and_a_list_on_stdin(run) -> None:  # type: ignore[no-untyped-def]
    files = "shapes/test/ring/00.png\nshapes/test/disc/01.png\n"
    _, out, _ = run("predict", "run", "-", "--csv", "--topk", "9", stdin=files)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"] for row in rows] == [name for name in files.split() for _ in range(3)]
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    assert sum(float(row["score"]) for row in rows[:3]) == pytest.approx(1, abs=1e-5)
    _, out, _ = run("predict", "run", "-", stdin=files)
    assert [line.split(":")[0] for line in out.splitlines()] == files.split()
    odd = os.fsdecode(b"caf\xe9.png")
    shutil.copy(files.split()[0], odd)
    assert r"caf\xe9.png: " in run("predict", "run", "-", stdin=f"{odd}\n")[1]
    code, _, err = run("predict", "run", "-", stdin="\n")
    assert code == 1
    assert "stdin was empty" in err


def test_predict_goes_on_after_an_unreadable_image(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    good = (home / "shapes/test/ring/00.png").read_bytes()
    (home / "cut.png").write_bytes(good[: len(good) // 2])
    words = ("predict", "run", "cut.png", "shapes/test/ring/00.png", "missing.png")
    code, out, err = run(*words, "--json")
    assert code == 1
    assert [set(json.loads(line)) for line in out.splitlines()] == [
        {"file", "classes", "scores", "error"},
        {"file", "classes", "scores", "error"},
        {"file", "classes", "scores", "error"},
    ]
    assert "2 of 3 images could not be read" in err
    code, out, err = run(*words)
    assert code == 1
    assert "unreadable: cut.png:" in err
    assert out.startswith("shapes/test/ring/00.png: ")
    assert "--bom has no effect without --csv" in run(*words, "--bom")[2]
    assert run(*words, "--csv", "--bom")[1] == "\ufeff" + run(*words, "--csv")[1]
    _, out, _ = run(*words, "--csv")
    assert [bool(row["error"]) for row in csv.DictReader(io.StringIO(out))] == [True, False, True]


def test_a_grey_image_with_a_strange_shape_is_fine(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    Image.new("L", (300, 3), 200).save(home / "strip.png")
    code, out, _ = run("predict", "run", "strip.png", "--json")
    assert code == 0
    assert json.loads(out)["file"] == "strip.png"


def test_another_backbone_is_refused_by_its_weights(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    assert run("eval", "run", "shapes", "--backbone", "demo", "--json")[0] == 0
    weights = load_file(DEMO_WEIGHTS)
    weights["blocks.1.mlp.fc1.bias"][5] += 0.01
    save_file(weights, home / "other.safetensors")
    words = ("predict", "run", "shapes/test/ring/00.png", "--backbone", "demo", "--weights")
    assert run(*words, str(DEMO_WEIGHTS))[0] == 0
    code, out, err = run(*words, "other.safetensors")
    assert (code, out) == (1, "")
    assert "has other weights (fingerprint " in err
