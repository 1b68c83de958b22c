"""The command `eval`, and the reports that it and `report` make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.tasks_for_tests import write_images

import e2vpt


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


@pytest.mark.parametrize("file", ["--report", "--csv"])
def test_one_class_is_told_from_nothing(run, home: Path, file: str) -> None:  # type: ignore[no-untyped-def]
    model = e2vpt.adapt(e2vpt.load_backbone("demo", num_classes=1), "linear")
    info = e2vpt.read_adapter(home / "run/adapter.safetensors")
    e2vpt.save_adapter(model, home / "one.safetensors", classes=["ring"], preprocessing=info.preprocessing)
    code, _, err = run("eval", "one.safetensors", "shapes", file, "one.out")
    assert code == 1 and "one.safetensors has one class" in err
    assert not (home / "one.out").exists()


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
