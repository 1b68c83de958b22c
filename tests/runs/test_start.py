"""A run is checked before it begins; what fails leaves nothing in the way; what is resumed is what it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt.errors import BackboneError, ConfigError, E2VPTError, RunError, UnsupportedBackbone, WeightsError
from e2vpt.runs.folders.folder import ADAPTER
from e2vpt.runs.start import RunPlan, plan_run

Command = Callable[..., tuple[int, str, str]]
SHORT = {"epochs": 2, "prune": False, "verbose": False}


class Stopped(Exception):
    """Where a run is interrupted."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("data") / "shapes", train=4, val=2, test=2)


@pytest.fixture
def begun(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of its own and a run that was stopped after one of two epochs."""
    from e2vpt.training import fit as module

    shutil.copytree(data, tmp_path / "data")
    real, calls = module.save_checkpoint, []

    def stopping(*args: object, **settings: object) -> None:
        real(*args, **settings)  # type: ignore[arg-type]
        calls.append(1)
        raise Stopped

    monkeypatch.setattr(module, "save_checkpoint", stopping)
    with pytest.raises(Stopped):
        e2vpt.train(tmp_path / "data", "demo", tmp_path / "run", **SHORT)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "save_checkpoint", real)
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"backbone": "vit_tny_patch16_224"}, BackboneError),
        ({"backbone": "resnet18"}, UnsupportedBackbone),
        ({"weights": "missing.safetensors"}, WeightsError),
        ({"image_size": 33}, BackboneError),
        ({"num_visual": (1, 2)}, ConfigError),
        ({"method": "lorra"}, ConfigError),
    ],
)
def test_a_failed_start_is_found_before_images_and_does_not_block_the_next(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object], error: type
) -> None:
    import e2vpt.runs.start as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_task", lambda *_, **__: pytest.fail("images were read"))
        with pytest.raises(error):
            e2vpt.train(data, **({"backbone": "demo"} | SHORT | wrong), out=tmp_path / "run")  # type: ignore[arg-type]
    assert e2vpt.train(data, "demo", tmp_path / "run", **(SHORT | {"epochs": 1})).path.exists()  # type: ignore[arg-type]


def test_a_run_that_was_killed_before_its_first_epoch_does_not_block(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from e2vpt.runs import run as module

    def killed(*_: object, **__: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", killed)
        with pytest.raises(Stopped):
            e2vpt.train(data, "demo", tmp_path / "run", **SHORT)  # type: ignore[arg-type]
    again = e2vpt.train(data, "demo", tmp_path / "run", **(SHORT | {"epochs": 1, "num_visual": 3}))  # type: ignore[arg-type]
    assert again.info.num_visual == (3,) * 6


def test_resuming_needs_no_repeated_settings_and_gives_the_same_bytes(begun: Path, data: Path) -> None:
    whole = e2vpt.train(data, "demo", begun / "whole", **SHORT)  # type: ignore[arg-type]
    resumed = e2vpt.train(out=begun / "run", resume=True, verbose=False)
    assert resumed.path.read_bytes() == whole.path.read_bytes()


def test_the_command_resumes_with_nothing_but_the_folder(
    begun: Path, data: Path, e2vpt_command: Command
) -> None:
    whole = e2vpt.train(data, "demo", begun / "whole", **SHORT)  # type: ignore[arg-type]
    code, _, err = e2vpt_command("train", "--resume", "--out", str(begun / "run"))
    assert code == 0, err
    assert (begun / "run" / ADAPTER).read_bytes() == whole.path.read_bytes()


def test_workers_are_no_part_of_a_run(begun: Path) -> None:
    assert e2vpt.train(out=begun / "run", resume=True, workers=1, verbose=False).path.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_size": 64}, "image_size None, now 64"),
        ({"epochs": 3}, "epochs 2, now 3"),
        ({"num_visual": 3}, "num_visual 10, now 3"),
        ({"lr": 0.5}, r"lr 0\.01, now 0\.5"),
    ],
)
def test_other_settings_are_named(begun: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(RunError, match=message):
        e2vpt.train(out=begun / "run", resume=True, verbose=False, **changed)  # type: ignore[arg-type]


def test_other_images_are_named(begun: Path) -> None:
    images = sorted((begun / "data/train/disc").iterdir())
    for image in images[:2]:
        image.unlink()
    with pytest.raises(RunError, match=r"other images: 2 gone \(.*disc/00\.png"):
        e2vpt.train(out=begun / "run", resume=True, verbose=False)


def test_other_weights_are_named(begun: Path) -> None:
    from safetensors.torch import load_file, save_file

    from e2vpt.backbones.demo import DEMO_WEIGHTS

    tensors = load_file(DEMO_WEIGHTS)
    name = next(name for name in tensors if name.endswith("qkv.weight"))
    save_file(tensors | {name: tensors[name] + 1}, begun / "other.safetensors")
    with pytest.raises(RunError, match="fingerprint"):
        e2vpt.train(out=begun / "run", resume=True, weights=begun / "other.safetensors", verbose=False)


def test_weights_are_found_from_another_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from e2vpt.backbones.demo import DEMO_WEIGHTS

    (tmp_path / "elsewhere").mkdir()
    shutil.copy(DEMO_WEIGHTS, tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    plan = plan_run(str(data), "demo", tmp_path / "run", {"weights": "own.safetensors"}, resume=False)
    assert plan.config.weights == str(tmp_path / "own.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    plan = plan_run(str(data), "demo", tmp_path / "run", {"weights": "~/own.safetensors"}, resume=False)
    assert plan.config.weights == str(tmp_path / "own.safetensors")


def test_there_is_nothing_to_resume(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run to go on with"):
        e2vpt.train(data, "demo", tmp_path / "none", resume=True)
    with pytest.raises(ConfigError, match="Name the images"):
        e2vpt.train(out=tmp_path / "none")
    with pytest.raises(ConfigError, match="Name the --backbone"):
        e2vpt.train(data, out=tmp_path / "none")


def test_a_run_of_the_papers_protocol_is_not_gone_on_with_as_another(begun: Path) -> None:
    (begun / "run/grid").mkdir()
    (begun / "run/grid/config.json").write_text("{}")
    with pytest.raises(RunError, match="--protocol paper --resume"):
        e2vpt.train(out=begun / "run", resume=True, verbose=False)


def test_class_names_that_no_file_could_hold_are_found_early(tmp_path: Path) -> None:
    data = write_task(tmp_path / "data")
    for split in ("train", "val", "test"):
        (data / split / "ring").rename(data / split / "ri\u202eng")
    with pytest.raises(E2VPTError, match="an adapter file could not hold it"):
        e2vpt.train(data, "demo", tmp_path / "run", **SHORT)  # type: ignore[arg-type]
    for split in ("train", "val", "test"):
        (data / split / "ri\u202eng").rename(data / split / "n\u00f6\u200cn\u00a0x")
    assert e2vpt.train(data, "demo", tmp_path / "run", **SHORT).info.classes[-1].endswith("x")  # type: ignore[arg-type]


def planned(given: dict[str, object]) -> RunPlan:
    return plan_run("data", "demo", Path("never/made"), given, resume=False)


def test_a_recipe_is_where_settings_start_and_what_is_given_replaces_its_values() -> None:
    paper = planned({"recipe": "paper", "label_smoothing": 0.2}).config
    assert paper.recipe == "paper" and paper.options.beside == "none" and paper.prompts.init == "uniform"
    assert paper.train.label_smoothing == 0.2
    assert planned({"recipe": "quick"}).prune is None and planned({}).prune is not None
    assert planned({"recipe": "quick", "prune": True, "epochs": 5}).config.train.epochs == 5
    with pytest.raises(ConfigError, match="recipe is 'slow'"):
        planned({"recipe": "slow"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_segments": 7}, "7 segments do not divide prompts of 128 channels"),
        ({"num_visual": (1, 2, 3, 4, 5, 6), "masks": "shared"}, "different numbers of prompts"),
    ],
)
def test_what_cannot_be_pruned_is_found_before_anything_is_trained(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(given)
    assert planned(given | {"num_segments": 16, "masks": "per-block"}).prune is not None


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/pets.v1", "pets.v1"),
        ("a/pets.v2/", "pets.v2"),
        ("a/pets.tar.gz", "pets"),
        ("pets.ZIP", "pets"),
        ("pets.csv", "pets"),
        ("hf:owner/pets:small", "pets:small"),
        (".", "here"),
    ],
)
def test_a_run_is_called_like_its_data(
    source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert plan_run(source, "demo", None, {}, resume=False).out == Path("runs") / name


def test_a_run_without_out_is_resumed_where_its_data_says(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(begun)
    (begun / "runs").mkdir()
    (begun / "run").rename(begun / "runs" / "data")
    assert plan_run("data", None, None, {}, resume=True).config.train.epochs == 2


def test_zero_visual_prompts_in_every_block_are_none() -> None:
    assert planned({"num_visual": (0,) * 6, "num_kv": 2}).prune is None


def test_a_run_is_resumed_with_its_own_recipe(begun: Path) -> None:
    with pytest.raises(RunError, match="recipe default, now paper"):
        e2vpt.train(out=begun / "run", resume=True, recipe="paper", verbose=False)


def test_the_papers_protocol_starts_from_the_papers_recipe(data: Path, tmp_path: Path) -> None:
    def planned(**given: object) -> RunPlan:
        return plan_run(str(data), "demo", tmp_path / "run", given, resume=False, protocol="paper")

    found = planned()
    assert (found.config.recipe, found.config.prompts.num_kv) == ("paper", 5)
    assert found.config.options.beside == "none" and found.config.data.augment == "none"
    assert planned(num_kv=0).config.prompts.num_kv == 0, "what is given stays"
    assert planned(recipe="default").config.prompts.num_kv == 0
