"""Any labelled images can be evaluated on; images of the run are recognised by their content."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tasks_for_tests import CLASSES, write_images, write_task

import e2vpt
from e2vpt.errors import DataError, RunError, UnreadableImages
from e2vpt.runs.models.task_model import Evaluation

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images without splits, `data`, and a run of them, `run`: 7 train, 1 val and 2 test of each class."""
    home = tmp_path_factory.mktemp("home")
    write_images(home / "data", 10)
    e2vpt.train(home / "data", "demo", home / "run", method="linear", epochs=1, verbose=False)
    return home


@pytest.fixture(scope="module")
def model(home: Path) -> e2vpt.TaskModel:
    return e2vpt.load(home / "run")


@pytest.fixture
def rows(home: Path) -> list[dict[str, str]]:
    """What the run says of its images."""
    with (home / "run/splits.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def measure(
    model: e2vpt.TaskModel, source: Path, split: str = "test"
) -> tuple[tuple[str, int, int], Evaluation, str]:
    """Split, number of images, number of those trained on; everything measured; what was said."""
    said: list[str] = []
    found = model.evaluate(source, split=split, on_note=said.append)  # type: ignore[arg-type]
    return (found.split, found.num_images, found.num_trained_on), found, " ".join(said)


def test_new_images_without_splits_are_used_whole(model: e2vpt.TaskModel, tmp_path: Path) -> None:
    new = write_images(tmp_path / "new", 4, seed=9)
    found, _, said = measure(model, new)
    assert found == ("all", 12, 0)
    assert said == "new has no splits, so all its 12 images are used."
    with pytest.raises(DataError, match="new has no splits"):
        measure(model, new, "val")


def test_what_one_could_not_train_on(model: e2vpt.TaskModel, tmp_path: Path) -> None:
    assert measure(model, write_images(tmp_path / "one_each", 1, seed=9))[0] == ("all", 3, 0)
    one_class = write_images(tmp_path / "one_class", 3, seed=9)
    for name in CLASSES[1:]:
        shutil.rmtree(one_class / name)
    assert measure(model, tmp_path / "one_class")[0] == ("all", 3, 0)
    (tmp_path / "one_class/ring").mkdir()
    assert measure(model, tmp_path / "one_class")[0] == ("all", 3, 0)
    write_images(tmp_path / "only_test/test", 2, seed=9)
    assert measure(model, tmp_path / "only_test")[0] == ("test", 6, 0)
    table = tmp_path / "table.csv"
    table.write_text("path,label,split\none_each/ring/00.png,ring,test\n")
    assert measure(model, table)[0] == ("test", 1, 0)
    (tmp_path / "nothing/ring").mkdir(parents=True)
    with pytest.raises(DataError, match="nothing holds no labelled images"):
        measure(model, tmp_path / "nothing")


def test_one_class_whose_images_lie_in_subfolders(model: e2vpt.TaskModel, tmp_path: Path) -> None:
    write_images(tmp_path / "all", 3)
    (tmp_path / "new" / "ring").mkdir(parents=True)
    shutil.move(tmp_path / "all" / "ring", tmp_path / "new" / "ring" / "monday")
    shutil.move(tmp_path / "all" / "disc", tmp_path / "new" / "ring" / "tuesday")
    assert measure(model, tmp_path / "new")[0] == ("all", 6, 0)


@pytest.mark.parametrize(("split", "count"), [("train", 21), ("val", 3), ("test", 6)])
def test_images_of_the_run_keep_its_own_splits(
    model: e2vpt.TaskModel, home: Path, rows: list[dict[str, str]], tmp_path: Path, split: str, count: int
) -> None:
    with tarfile.open(tmp_path / "moved.tar", "w") as archive:
        archive.add(home / "data", "data")
    files = [row["file"] for row in rows if row["split"] == split]
    alone = tmp_path / "alone"
    for file in map(Path, files):
        (alone / split / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, alone / split / file.parent.name)
    measured = [measure(model, source, split) for source in (home / "data", tmp_path / "moved.tar", alone)]
    assert measured[0][1].loss == measured[1][1].loss == pytest.approx(measured[2][1].loss)
    assert {found for found, *_ in measured} == {(split, count, 0)}
    assert measured[0][2] == f"These are the images of the run; of its own splits, {split} is used."


def test_a_validation_split_that_the_run_made_itself(tmp_path: Path) -> None:
    write_images(tmp_path / "data/train", 6)
    e2vpt.train(tmp_path / "data", "demo", tmp_path / "run", method="linear", epochs=1, verbose=False)
    model = e2vpt.load(tmp_path / "run")
    assert measure(model, tmp_path / "data", "val")[0] == ("val", 3, 0)
    with pytest.raises(DataError, match="data has no test images, only train"):
        measure(model, tmp_path / "data")


def test_images_that_were_trained_on_are_counted(
    model: e2vpt.TaskModel, home: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    new = write_images(tmp_path / "new", 4, seed=9)
    for number, row in enumerate(row for row in rows if row["split"] in ("train", "val")):
        shutil.copy(row["file"], new / row["class"] / f"copy{number}.png")
    found, _, said = measure(model, new)
    assert found == ("all", 36, 24)
    assert "Warning: 24 of 36 images were used in training" in said
    shutil.copytree(new, tmp_path / "divided/test")
    assert measure(model, tmp_path / "divided")[0] == ("test", 36, 24)
    assert measure(model, home / "data", "all")[0] == ("all", 30, 24)
    with pytest.warns(UserWarning, match="24 of 30 images were used in training"):
        model.evaluate(home / "data", split="all")


@pytest.mark.parametrize("last", [False, True])
def test_an_image_in_two_splits_of_the_run_counts_as_trained_on(
    home: Path, rows: list[dict[str, str]], tmp_path: Path, last: bool
) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    row = next(row for row in rows if row["split"] == "train")
    again = [row | {"split": "test", "file": "copy.png"}]
    with (tmp_path / "run/splits.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(row))
        table.writeheader()
        table.writerows([*rows, *again] if last else [*again, *rows])
    new = write_images(tmp_path / "new", 1, seed=9)
    shutil.copy(row["file"], new / row["class"] / "copy.png")
    assert measure(e2vpt.load(tmp_path / "run"), new)[0] == ("all", 4, 1)


def test_an_adapter_without_its_run_says_what_is_not_known(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "run/adapter.safetensors", tmp_path / "pets.safetensors")
    found, _, said = measure(e2vpt.load(tmp_path / "pets.safetensors"), home / "data")
    assert found == ("all", 30, 0)
    assert "Whether some of them were trained on is not known" in said


@pytest.mark.parametrize(
    "config",
    [
        b'{"model_type": "vit"}',
        b'{"classes": ["bars", "disc", "ring"], "weights": 3}',
        b"[]",
        b"not json",
        b"\xff\xfe",
        None,
    ],
)
def test_a_config_of_something_else_is_left_alone(home: Path, tmp_path: Path, config: bytes | None) -> None:
    shutil.copy(home / "run/adapter.safetensors", tmp_path)
    if config is None:
        (tmp_path / "config.json").mkdir()
    else:
        (tmp_path / "config.json").write_bytes(config)
    for path in (tmp_path, tmp_path / "adapter.safetensors"):
        model = e2vpt.load(path)
        assert model.predict(home / "data/ring/00.png")[0].classes
        assert measure(model, home / "data")[0] == ("all", 30, 0)


def test_an_adapter_in_the_folder_of_another_run(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "other")
    config = json.loads((tmp_path / "other/config.json").read_text()) | {"classes": ["a", "b"]}
    (tmp_path / "other/config.json").write_text(json.dumps(config | {"weights": str(home / "gone")}))
    assert measure(e2vpt.load(tmp_path / "other"), home / "data")[0] == ("all", 30, 0)


def test_a_damaged_table_of_images(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    table = tmp_path / "run/splits.csv"
    for content in (b"split,file\ntrain,a.png\n", b"\xff\xfe\x00", b""):
        table.write_bytes(content)
        with pytest.raises(RunError, match=r"splits\.csv cannot be read"):
            measure(e2vpt.load(tmp_path / "run"), home / "data")
    table.unlink()
    assert measure(e2vpt.load(tmp_path / "run"), home / "data")[0] == ("all", 30, 0)


def test_every_unreadable_image_is_named_and_those_of_other_splits_do_not_matter(
    model: e2vpt.TaskModel, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "data", train=2, val=1, test=3)
    (data / "train/ring/00.png").write_bytes(b"")
    assert measure(model, data)[0] == ("test", 9, 0)
    for name in ("ring", "disc"):
        (data / "test" / name / "00.png").write_bytes(b"")
    with pytest.raises(UnreadableImages) as caught:
        measure(model, data)
    assert len(caught.value.problems) == 2


def test_the_command_says_the_same(home: Path, model: e2vpt.TaskModel, e2vpt_command: Command) -> None:
    code, out, err = e2vpt_command("eval", str(home / "run"), str(home / "data"), "--split", "all", "--json")
    found = measure(model, home / "data", "all")[1]
    assert code == 0 and json.loads(out) == {
        "split": "all",
        "accuracy": found.accuracy,
        "mean_class_accuracy": found.mean_class_accuracy,
        "loss": found.loss,
        "num_images": 30,
        "num_trained_on": 24,
        "left_out": {},
    }
    assert "Warning: 24 of 30 images were used in training" in err
