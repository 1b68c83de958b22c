"""A cell of a benchmark: what each protocol trains, and the rows it leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import timm
from support.vtab_for_tests import write_vtab

from e2vpt import DataConfig, PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.suite.cell import (
    Protocol,
    cell_folder,
    entry_of,
    finished_rows,
    grid_of,
    num_backbone,
    run_cell,
)
from e2vpt.benchmarks.suite.tasks import Suite, open_suite
from e2vpt.config import RECIPE_PROMPTS, GridConfig
from e2vpt.errors import RunError
from e2vpt.files.atomic import read_json_lines
from e2vpt.runs.reporting import Reporting

FAST = Protocol(
    name="fast",
    config=RunConfig(
        backbone="demo",
        prompts=PromptConfig(num_visual=2, num_kv=1),
        data=DataConfig(image_size=16),
        train=TrainConfig(epochs=1, batch_size=250),
    ),
    prune=PruneConfig(num_segments=2),
    seeds=1,
)
GRID = GridConfig(base_lrs=(0.1,), weight_decays=(0.0,), keep_ratios=(0.5,), final_seeds=(42, 44))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("vtab")
    write_vtab(root, "eurosat")
    return open_suite("vtab", str(root))


def stages(folder: Path) -> list[str]:
    return [row["stage"] for row in read_json_lines(folder / "trials.jsonl")]


def test_fast_is_one_training_where_there_is_nothing_to_choose(suite: Suite, tmp_path: Path) -> None:
    run_cell(suite, FAST, "eurosat", "linear", tmp_path, Reporting())
    folder = cell_folder(tmp_path, "eurosat", "linear")
    (row,) = finished_rows(tmp_path, "eurosat", "linear", FAST)
    assert stages(folder) == ["final"] and row["lr"] == 5e-3
    assert (row["group"], row["source"]) == ("specialized", "tfds")
    assert (row["num_tuned"], row["num_head"]) == (0, 128 * 10 + 10)
    # The adapter stays; what only an unfinished training needs is gone.
    assert [path.name for path in folder.rglob("*.safetensors")] == ["adapter.safetensors"]
    more = dataclasses.replace(FAST, seeds=2)
    assert finished_rows(tmp_path, "eurosat", "linear", more) == []
    run_cell(suite, more, "eurosat", "linear", tmp_path, Reporting())
    first, second = finished_rows(tmp_path, "eurosat", "linear", more)
    assert first == row and second["seed"] == 1 and stages(folder) == ["final"] * 2


def test_fast_chooses_pruning_and_with_tune_the_rate_on_validation_images(
    suite: Suite, tmp_path: Path
) -> None:
    run_cell(suite, FAST, "eurosat", "e2vpt", tmp_path / "own", Reporting())
    assert stages(cell_folder(tmp_path / "own", "eurosat", "e2vpt")) == ["tuning", "final"]
    tuned = dataclasses.replace(FAST, tune=True)
    assert entry_of(tuned, "bias").lrs == ENTRIES["bias"].lrs
    run_cell(suite, tuned, "eurosat", "bias", tmp_path / "tuned", Reporting())
    assert stages(cell_folder(tmp_path / "tuned", "eurosat", "bias")) == ["tuning"] * 3 + ["final"]


def test_paper_goes_through_its_grid(suite: Suite, tmp_path: Path) -> None:
    paper = dataclasses.replace(FAST, name="paper", grid=GRID)
    for method, pairs in (("e2vpt-paper", ["pairs"]), ("linear", [])):
        run_cell(suite, paper, "eurosat", method, tmp_path, Reporting())
        folder = cell_folder(tmp_path, "eurosat", method)
        assert stages(folder) == ["grid", *pairs, "final", "final"]
        rows = finished_rows(tmp_path, "eurosat", method, paper)
        assert [(row["method"], row["seed"], row["diverged"]) for row in rows] == [
            (method, 42, False),
            (method, 44, False),
        ]
        assert all(0 <= row["accuracy"] <= 1 and row["num_head"] == 1290 for row in rows)
    assert rows[0]["num_tuned"] == 0


@pytest.mark.parametrize(
    ("method", "prompts", "beside"),
    [
        ("e2vpt", ("patch", "patch", 0), "auto"),
        ("e2vpt-no-prune", ("patch", "patch", 0), "auto"),
        ("e2vpt-paper", ("uniform", "kaiming", 5), "none"),
        ("vpt-deep", ("uniform", "kaiming", 0), "auto"),  # scales with the method e2vpt only
    ],
)
def test_paper_leaves_each_row_its_own_prompts(
    suite: Suite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    prompts: tuple[str, str, int],
    beside: str,
) -> None:
    class Opened(Exception):
        pass

    def opened(task: object, config: RunConfig, *rest: object, **options: object) -> None:
        found.append(config)
        raise Opened

    found: list[RunConfig] = []
    monkeypatch.setattr("e2vpt.runs.protocol.opened_run", opened)
    config = dataclasses.replace(FAST.config, prompts=RECIPE_PROMPTS)
    paper = dataclasses.replace(FAST, name="paper", grid=GRID, config=config)
    with pytest.raises(Opened):
        run_cell(suite, paper, "eurosat", method, tmp_path, Reporting())
    (made,) = found
    assert (made.prompts.init, made.prompts.kv_init, made.prompts.num_kv) == prompts
    assert made.options.beside == beside
    assert (made.train.optimizer, made.train.label_smoothing) == ("sgd", 0.0)


def test_finals_on_training_images_alone_keep_the_best_epoch(suite: Suite, tmp_path: Path) -> None:
    """FGVC, whose published numbers are of training images; VTAB-1k's are of validation images too."""
    fast = dataclasses.replace(FAST, final_on="train")
    run_cell(suite, fast, "eurosat", "e2vpt", tmp_path / "fast", Reporting())
    folder = cell_folder(tmp_path / "fast", "eurosat", "e2vpt")
    assert stages(folder) == ["final"], "its pruning is chosen on validation images in the same run"
    paper = dataclasses.replace(fast, name="paper", grid=GRID)
    run_cell(suite, paper, "eurosat", "linear", tmp_path / "paper", Reporting())
    of_paper = cell_folder(tmp_path / "paper", "eurosat", "linear")
    for where in (folder, of_paper):
        rows = read_json_lines(where / "trials.jsonl")
        accuracies = [row.get("val_accuracy", row.get("accuracy")) for row in rows if row["stage"] == "final"]
        assert accuracies and None not in accuracies
    on_all = dataclasses.replace(paper, final_on="train+val")
    with pytest.raises(RunError, match=r"final_on train, now train\+val"):
        run_cell(suite, on_all, "eurosat", "linear", tmp_path / "paper", Reporting())


def test_rows_of_the_paper_prune_as_published_unless_somebody_says_how(suite: Suite, tmp_path: Path) -> None:
    run_cell(suite, FAST, "eurosat", "e2vpt-paper", tmp_path, Reporting())
    asked = json.loads(
        next(cell_folder(tmp_path, "eurosat", "e2vpt-paper").rglob("prune/config.json")).read_text()
    )
    assert (asked["masks"], asked["rewind_head"], asked["num_segments"]) == ("shared", True, 2)
    given = dataclasses.replace(FAST, given=("masks",))
    assert entry_of(given, "e2vpt-paper").pruning.keys() == {"rewind_head", "prune_at", "rewind"}


def test_full_fine_tuning_has_adamw_s_grid() -> None:
    plain = dataclasses.replace(FAST, name="paper", grid=GridConfig())
    assert grid_of(plain, ENTRIES["full"]).grid_optimizer == "adamw"
    assert grid_of(plain, ENTRIES["linear"]).grid_optimizer == "sgd"
    assert grid_of(dataclasses.replace(plain, grid=GRID), ENTRIES["full"]).base_lrs == (0.1,)


def test_a_rate_that_diverges_says_what_to_do(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = {**ENTRIES, "linear": dataclasses.replace(ENTRIES["linear"], lrs=(1e30, 1e31))}
    monkeypatch.setattr("e2vpt.benchmarks.suite.cell.ENTRIES", wild)
    tuned = dataclasses.replace(FAST, tune=True)
    with pytest.raises(RunError, match=r"eurosat, linear: training diverged at 1e\+30; try --tune"):
        run_cell(suite, tuned, "eurosat", "linear", tmp_path, Reporting())


def test_parameters_of_a_backbone_without_its_head() -> None:
    config = dataclasses.replace(FAST.config, backbone="vit_tiny_patch16_224", data=DataConfig())
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    assert num_backbone(config) == sum(p.numel() for p in model.parameters())
