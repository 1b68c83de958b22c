"""What the commands have in common: errors in one message, usage, closest names, images left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.commands_for_tests import TRAIN
from support.tasks_for_tests import write_images


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


def test_wrong_flags_end_with_usage(run) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("train", "shapes", "--backbone", "demo", "--num-visual", "ten")
    assert code == 2
    assert "'ten': expected a number" in err
    assert run("train", "shapes", "--optimizer", "lion", "--backbone", "demo")[0] == 2
    assert run("fly")[0] == 2


def test_a_misspelt_backbone_gets_the_closest_names(run) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("predict", "run", "shapes/test/ring/00.png", "--backbone", "vit_tiny_patch16_225")
    assert code == 1
    assert "There is no backbone 'vit_tiny_patch16_225'. Closest: vit_tiny_patch16_224" in err


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


REFUSED = (
    "export run --out model",
    "explain run",
    "predict run photos --json --csv",
    "embed run photos --out features.txt",
    "eval run photos --bom",
    "train photos --calibrate --no-report",
    "serve run --replicas 2",
    "bench vtab --backbone demo --lr 1",
)


def test_help_and_refused_flags_need_no_torch() -> None:
    """Torch and timm take seconds to import."""
    script = f"""
import importlib, sys
from e2vpt.cli.app import COMMANDS, main
for module, _ in COMMANDS.values():
    importlib.import_module(f"e2vpt.cli.commands.{{module}}")
for words in {REFUSED}:
    sys.argv = ["e2vpt", *words.split()]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, end=" ")
print(*sorted({{"torch", "timm", "numpy", "PIL", "fastapi", "ray"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["1"] * len(REFUSED), done.stderr
    assert done.stderr.count("error: ") == len(REFUSED)
