"""The commands, as a newcomer types them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from support.tasks_for_tests import write_images, write_task

from e2vpt.backbones.demo import DEMO_WEIGHTS

TRAIN = [
    "train",
    "shapes",
    "--backbone",
    "demo",
    "--epochs",
    "6",
    "--batch-size",
    "9",
    "--lr",
    "0.01",
    "--out",
    "run",
    "--no-prune",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `shapes` and a finished run `run`."""
    folder = tmp_path_factory.mktemp("home")
    write_task(folder / "shapes", train=10)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "e2vpt", *TRAIN],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, e2vpt_command):  # type: ignore[no-untyped-def]
    """Call a command in that folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(home)
    return e2vpt_command


def test_train_says_what_it_does(home: Path) -> None:
    said = (home / "stderr").read_text()
    assert "shapes: 3 classes; images: 30 train, 9 val, 12 test" in said
    assert said.count("epoch ") == 6
    shown = (home / "stdout").read_text()
    assert "run/adapter.safetensors" in shown
    assert "10 in each of 6 blocks" in shown
    accuracy = re.search(r"test accuracy +(\S+) of 12 images", shown)
    assert accuracy and re.search(r"\n  ring +\S+ of 4\n", shown)
    assert f'<dd class="value">{accuracy[1]}</dd>' in (home / "run/report.html").read_text()


def test_the_next_command_runs_as_it_is_printed(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    (line,) = [line for line in (home / "stdout").read_text().splitlines() if line.startswith("next ")]
    words = shlex.split(line.removeprefix("next"))
    assert words[0] == "e2vpt"
    code, out, _ = run(*words[1:])
    assert code == 0 and out.startswith("shapes/test/bars/00.png: ")


def test_a_report_can_be_made_again_and_of_other_images(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    (home / "run/report.html").unlink()
    code, out, _ = run("report", "run")
    assert code == 0 and "report             run/report.html" in out
    assert (home / "run/report.html").exists()
    files = ("--report", "more.html", "--csv", "more.csv", "--bom", "--separator", ";")
    code, out, _ = run("eval", "run", "shapes", "--split", "val", *files)
    assert code == 0 and out.splitlines()[-2:] == ["more.csv", "more.html"]
    assert "9 validation images" in (home / "more.html").read_text()
    assert len((home / "more.csv").read_text(encoding="utf-8-sig").splitlines()) == 10
    code, _, err = run("eval", "run", "shapes", "--bom")
    assert code == 1 and "--bom has no effect without --csv FILE" in err
    code, _, err = run("report", "run", "run")
    assert code == 1 and "named twice" in err


def test_eval_prints_one_json_object(run) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run("eval", "run", "shapes", "--json")
    assert code == 0
    result = json.loads(out)
    assert set(result) == {
        *("split", "accuracy", "mean_class_accuracy", "loss", "num_images", "num_trained_on", "left_out")
    }
    assert (result["split"], result["num_images"]) == ("test", 12)
    assert result["accuracy"] > 0.8
    code, out, _ = run("eval", "run/adapter.safetensors", "shapes", "--split", "all", "--json")
    assert json.loads(out)["num_images"] == 51
    _, out, _ = run("eval", "run", "shapes")
    assert f"accuracy {result['accuracy']:.1%} on 12 images (test)" in out


def test_eval_takes_labels_by_name_not_by_number(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    if not (home / "two").exists():
        write_images(home / "two/train", 2)
        write_images(home / "two/test", 6, seed=2)
        for split in ("train", "test"):
            for image in (home / "two" / split / "bars").iterdir():
                image.unlink()
            (home / "two" / split / "bars").rmdir()
    _, out, _ = run("eval", "run", "two", "--json")
    assert json.loads(out)["num_images"] == 12
    assert json.loads(out)["accuracy"] > 0.8


def test_eval_refuses_classes_it_does_not_know(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    write_images(home / "more", 6)
    (home / "more/ring").rename(home / "more/purple") if not (home / "more/purple").exists() else None
    code, _, err = run("eval", "run", "more")
    assert code == 1
    assert "classes the adapter does not know: purple. It knows bars, disc, ring" in err
    code, out, err = run("eval", "run", "shapes/train", "--split", "test")
    assert code == 0
    assert "on 30 images (all)" in out
    assert "all its 30 images are used. Warning: 30 of 30 images were used in training" in err


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


def test_a_misspelt_backbone_gets_the_closest_names(run) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("predict", "run", "shapes/test/ring/00.png", "--backbone", "vit_tiny_patch16_225")
    assert code == 1
    assert "There is no backbone 'vit_tiny_patch16_225'. Closest: vit_tiny_patch16_224" in err


def test_info_json_and_text(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = run("info", "run", "--json")
    found = json.loads(out)
    assert (found["method"], found["backbone"]) == ("e2vpt", "demo")
    assert (found["num_visual"], found["num_kv"], found["visual_kept"]) == ([10] * 6, [0] * 6, 1.0)
    assert found["bytes"] == (home / "run/adapter.safetensors").stat().st_size
    assert found["classes"] == ["bars", "disc", "ring"]
    _, out, _ = run("info", "run/adapter.safetensors")
    assert f"{found['num_tuned']} tuned, {found['num_head']} in the head" in out


def test_errors_are_one_message_and_exit_code_1(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    (home / "junk.safetensors").write_bytes(b"junk")
    wrong = (
        (TRAIN, "run holds a run already. Go on with it by --resume"),
        (
            ["train", "nowhere", "--backbone", "demo"],
            "nowhere does not exist. Expected a folder of class folders",
        ),
        (["train", "shapes", "--backbone", "vit_tiny_patch16_225"], "vit_tiny_patch16_224"),
        (
            ["train", "shapes", "--backbone", "demo", "--lr", "-1"],
            "lr is -1.0; expected a number in [0.0, inf)",
        ),
        (
            ["train", "shapes", "--backbone", "demo", "--num-visual", "1,2", "--out", "x"],
            "num_visual has 2 counts; the backbone has 6 blocks",
        ),
        (["info", "junk.safetensors"], "junk.safetensors is damaged or not an e2vpt file: it has 4 bytes"),
        (["eval", "gone", "shapes"], "gone does not exist; expected an adapter file or a run folder"),
        (
            ["predict", "run", "shapes/test/ring/00.png", "--json", "--csv"],
            "--json and --csv contradict each other",
        ),
    )
    for words, expected in wrong:
        code, out, err = run(*words)
        assert (code, out) == (1, ""), words
        assert err.count("error: ") == 1, words
        assert expected in err, words
        assert "Traceback" not in err


def test_every_unreadable_image_is_named_before_training(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    if not (home / "bad").exists():
        write_images(home / "bad", 6)
    (home / "bad/ring/00.png").write_bytes(b"")
    whole = (home / "bad/bars/01.png").read_bytes()
    (home / "bad/bars/01.png").write_bytes(whole[:200])
    code, _, err = run("train", "bad", "--backbone", "demo", "--out", "never")
    assert code == 1
    assert "2 unreadable image(s):" in err
    assert "bars/01.png" in err
    assert "ring/00.png" in err
    assert not (home / "never").exists()


def test_unreadable_images_can_be_left_out(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    write_images(home / "torn", 8)
    (home / "torn/ring/00.png").write_bytes(b"")
    left = "1 unreadable image(s) left out:"
    line = "torn/ring/00.png: the file is empty (0 bytes)"
    train = (
        "train",
        "torn",
        "--backbone",
        "demo",
        "--method",
        "linear",
        "--epochs",
        "1",
        "--out",
        "torn-run",
    )
    code, _, err = run(*train, "--skip-unreadable")
    assert code == 0 and left in err and line in err and "classes: bars, disc, ring" in err
    code, _, err = run("train", "--resume", "--out", "torn-run")  # which remembers it
    assert code == 0 and left in err
    assert run("eval", "torn-run", "torn", "--split", "all")[0] == 1
    code, out, err = run("eval", "torn-run", "torn", "--split", "all", "--json", "--skip-unreadable")
    found = json.loads(out)
    assert code == 0 and found["num_images"] == 23 and line in err
    assert found["left_out"] == {"torn/ring/00.png": "the file is empty (0 bytes)"}
    assert run("embed", "torn-run", "torn", "--out", "torn.csv")[0] == 1
    code, _, err = run("embed", "torn-run", "torn", "--out", "torn.csv", "--skip-unreadable")
    rows = (home / "torn.csv").read_text().splitlines()
    assert code == 0 and line in err and len(rows) == 24 and not any("ring/00" in row for row in rows)
    assert run("predict", "torn-run", "torn", "--json")[0] == 1
    code, out, err = run("predict", "torn-run", "torn", "--json", "--skip-unreadable")
    assert code == 0 and "1 of 24 images could not be read" in err
    assert [bool(json.loads(row)["error"]) for row in out.splitlines()].count(True) == 1
    empty = ("torn/ring/00.png", "--skip-unreadable")
    assert run("predict", "torn-run", *empty)[0] == 1, "nothing was read"
    assert run("embed", "torn-run", *empty, "--out", "none.csv")[0] == 1


def test_info_of_a_folder_of_runs_names_them(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("info", ".")
    assert code == 1 and "is not a run but holds runs: " in err and "run" in err.split("runs: ")[1]
    code, _, err = run("info", "shapes")
    assert code == 1 and "shapes is no run folder of `e2vpt train`, and holds none" in err


def test_a_missing_backbone_gets_three_to_start_with(run) -> None:  # type: ignore[no-untyped-def]
    for command in ("train", "search"):
        code, _, err = run(command, "shapes")
        assert code == 1 and "Name the --backbone. To start with: vit_small_patch16_224" in err


def test_wrong_flags_end_with_usage(run) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("train", "shapes", "--backbone", "demo", "--num-visual", "ten")
    assert code == 2
    assert "'ten': expected a number" in err
    assert run("train", "shapes", "--optimizer", "lion", "--backbone", "demo")[0] == 2
    assert run("fly")[0] == 2


def test_fp16_adapter_is_half_the_size(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "1", "--no-prune"]
    code, _, err = run(*words, "--adapter-precision", "fp16", "--out", "half")
    assert code == 0, err
    half, full = (json.loads(run("info", name, "--json")[1]) for name in ("half", "run"))
    assert half["precision"] == "fp16"
    assert half["bytes"] < 0.6 * full["bytes"]
    assert run("eval", "half", "shapes", "--json")[0] == 0


PRUNE = ["--keep-tokens", "0.3", "--keep-segments", "1,0.5", "--finalists", "1", "--tolerance", "1"]


def test_train_prunes_by_default_and_prune_does_it_later(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "2", "--lr", "0.01", "--batch-size", "9"]
    code, out, err = run(*words, *PRUNE, "--out", "pruned")
    assert code == 0, err
    assert "Training with all prompts" in err and "Training again with 30% of tokens" in err
    assert "* chosen" in out
    found = json.loads(run("info", "pruned", "--json")[1])
    assert sum(found["num_visual"]) == 3 * 6 and min(found["num_visual"]) >= 1
    assert found["visual_kept"] in (0.3, 0.15)
    assert json.loads(run("eval", "pruned", "shapes", "--json")[1])["num_images"] == 12

    assert run(*words, "--no-prune", "--out", "later")[0] == 0
    unpruned = (home / "later/adapter.safetensors").read_bytes()
    code, _, err = run("prune", "later", *PRUNE)
    assert code == 0, err
    assert (home / "later/adapter.safetensors").read_bytes() == (
        home / "pruned/adapter.safetensors"
    ).read_bytes()
    assert (home / "later/unpruned.safetensors").read_bytes() == unpruned
    code, _, err = run("prune", "later", "--keep", "0.2")
    assert code == 1 and "later/prune was made with other settings: keep 0.5, now 0.2; keep_segments" in err
    code, _, err = run("prune", "shapes")
    assert code == 1 and "shapes is not a finished run of `e2vpt train`" in err


def test_linear_and_prompts_without_visual_ones_are_not_pruned(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "1"]
    for name, more in (("head", ["--method", "linear"]), ("kv", ["--num-visual", "0"])):
        code, out, err = run(*words, *more, "--out", name)
        assert code == 0, err
        assert "Pruning" not in out and not (home / name / "prune").exists()


def test_a_grey_image_with_a_strange_shape_is_fine(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    Image.new("L", (300, 3), 200).save(home / "strip.png")
    code, out, _ = run("predict", "run", "strip.png", "--json")
    assert code == 0
    assert json.loads(out)["file"] == "strip.png"
