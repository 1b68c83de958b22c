"""The paper's protocol: every training once, ties as it says, and a killed one goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.tasks_for_tests import write_images, write_task

import e2vpt
from e2vpt import DataConfig, PromptConfig, RunConfig, TrainConfig, read_adapter
from e2vpt.config import GridConfig, PruneConfig
from e2vpt.config.fields import to_dict
from e2vpt.errors import ConfigError, RunError
from e2vpt.prompting.parts import tuned_parameters
from e2vpt.pruning.score_files import load_scores
from e2vpt.runs.prepare import build_model
from e2vpt.runs.protocol import _best, train_by_the_paper
from e2vpt.runs.reporting import Reporting

CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=4, num_kv=2),
    train=TrainConfig(epochs=1, batch_size=9),
)
GRID = GridConfig(base_lrs=(1.0, 0.5), weight_decays=(0.001,), keep_ratios=(0.5, 1.0), final_seeds=(42, 44))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> e2vpt.Task:
    return e2vpt.load_task(write_task(tmp_path_factory.mktemp("data") / "shapes"))


@pytest.fixture(scope="module")
def whole(
    task: e2vpt.Task, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]], list[str]]:
    """A finished run of CONFIG and GRID, its rows and what it said; not to be changed."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("whole") / "run"
    rows = train_by_the_paper(task, CONFIG, out, grid=GRID, reporting=Reporting(on_stage=said.append))
    return out, rows, said


def row(**values: Any) -> dict[str, Any]:
    return {"diverged": False, "accuracy": 0.5, "lr": 1.0, "kept": 1.0, "loss": 1.0} | values


def test_the_paper_s_own_grid_takes_126_trainings() -> None:
    assert GridConfig().num_trainings() == 10 * 4 + 81 + 5


def test_every_stage_builds_on_the_one_before(whole: tuple[Path, list[dict[str, Any]], list[str]]) -> None:
    out, rows, said = whole
    assert [r["stage"] for r in rows] == ["grid"] * 2 + ["pairs"] * 4 + ["final"] * 2
    assert len(said) == GRID.num_trainings() and said[0].startswith("Training 1 of 8: grid/lr")
    # base rate x batch / 256; the smallest first
    assert [r["lr"] for r in rows[:2]] == [0.5 * 9 / 256, 9 / 256]
    best = _best(rows[:2])
    assert all((r["lr"], r["weight_decay"]) == (best["lr"], best["weight_decay"]) for r in rows[2:])
    assert [(r["tokens"], r["segments"]) for r in rows[2:6]] == [(0.5, 0.5), (0.5, 1), (1, 0.5), (1, 1)]
    assert [r["kept"] for r in rows[2:6]] == [0.25, 0.5, 0.5, 1.0]
    pair = _best(rows[2:6])
    for r in rows[6:]:
        assert (r["tokens"], r["segments"], r["kept"]) == (pair["tokens"], pair["segments"], pair["kept"])
        assert 0 <= r["test_accuracy"] <= 1 and r["accuracy"] is None
    assert [r["seed"] for r in rows[6:]] == [42, 44]
    assert [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()] == rows
    assert (out / "adapter.safetensors").read_bytes() == (out / "final/42/adapter.safetensors").read_bytes()
    assert read_adapter(out / "adapter.safetensors").visual_kept == pair["kept"]
    # The best of the grid keeps its checkpoint, from which its scores come; the others would fill a disk.
    assert [str(p.parent.relative_to(out)) for p in out.rglob("checkpoint.safetensors")] == [best["name"]]


def test_what_is_finished_is_not_trained_again(
    task: e2vpt.Task,
    whole: tuple[Path, list[dict[str, Any]], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in every stage, it ends with the same rows and adapter as one that was not."""
    real, fresh = e2vpt.runs.protocol.train_into, []

    def stopping(prepared: Any, folder: Path, **options: Any) -> Any:
        if not (folder / "checkpoint.safetensors").exists():
            fresh.append(folder.name)
            if len(fresh) in (2, 5, 9):
                raise KeyboardInterrupt
        return real(prepared, folder, **options)

    monkeypatch.setattr(e2vpt.runs.protocol, "train_into", stopping)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train_by_the_paper(task, CONFIG, tmp_path / "broken", grid=GRID, resume=True)
    rows = train_by_the_paper(task, CONFIG, tmp_path / "broken", grid=GRID, resume=True)
    assert rows == whole[1]
    assert len(fresh) == GRID.num_trainings() + 3
    for name in ("adapter.safetensors", "trials.jsonl"):
        assert (tmp_path / "broken" / name).read_bytes() == (whole[0] / name).read_bytes()
    fresh.clear()
    assert train_by_the_paper(task, CONFIG, tmp_path / "broken", grid=GRID, resume=True) == rows
    assert fresh == []


def test_other_scores_are_another_protocol(
    task: e2vpt.Task, whole: tuple[Path, list[dict[str, Any]], list[str]], tmp_path: Path
) -> None:
    """Rows that were chosen by two kinds of scores would stand in one table."""
    shutil.copytree(whole[0], tmp_path / "run")
    with pytest.raises(RunError, match=r"grid was made with other settings: num_segments 16, now 8"):
        train_by_the_paper(
            task, CONFIG, tmp_path / "run", grid=GRID, prune=PruneConfig(num_segments=8), resume=True
        )


def test_what_cannot_be_pruned_is_said_before_the_grid(task: e2vpt.Task, tmp_path: Path) -> None:
    linear = dataclasses.replace(CONFIG, method="linear")
    with pytest.raises(ConfigError, match=r"nothing to prune|no prompts"):
        train_by_the_paper(task, linear, tmp_path / "run", grid=GRID)
    assert not (tmp_path / "run" / "grid").exists()


def test_patience_ends_with_the_validation_images(task: e2vpt.Task, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, patience=1))
    grid = dataclasses.replace(GRID, base_lrs=(1.0,), keep_ratios=(), final_seeds=(42,))
    rows = train_by_the_paper(task, config, tmp_path / "run", grid=grid)
    assert [row["stage"] for row in rows] == ["grid", "final"]


@pytest.mark.parametrize("method", ["bias", "linear"])
def test_methods_without_pruning_have_no_pairs(task: e2vpt.Task, tmp_path: Path, method: str) -> None:
    grid = dataclasses.replace(GRID, keep_ratios=())
    config = dataclasses.replace(CONFIG, method=method)
    rows = train_by_the_paper(task, config, tmp_path / "run", grid=grid)
    assert [r["stage"] for r in rows] == ["grid"] * 2 + ["final"] * 2 and len(rows) == grid.num_trainings()
    best = _best(rows[:2])
    assert {(r["lr"], r["weight_decay"]) for r in rows[2:]} == {(best["lr"], best["weight_decay"])}
    assert read_adapter(tmp_path / "run/final/44/adapter.safetensors").num_tuned == rows_tuned(config)
    with pytest.raises(ConfigError, match="prompts"):
        train_by_the_paper(task, config, tmp_path / "pruned", grid=GRID)


def rows_tuned(config: RunConfig) -> int:
    """What a method tunes beside the head."""
    return sum(p.numel() for p in tuned_parameters(build_model(config, num_classes=3)).values())


def test_a_rate_that_diverges_is_a_row_and_not_the_end(task: e2vpt.Task, tmp_path: Path) -> None:
    grid = GridConfig(base_lrs=(1e30, 0.5), weight_decays=(0.0,), keep_ratios=(1.0,), final_seeds=(42,))
    rows = train_by_the_paper(task, CONFIG, tmp_path / "run", grid=grid)
    assert [r["diverged"] for r in rows] == [False, True, False, False]
    assert rows[1]["accuracy"] == 0 and rows[2]["lr"] == rows[0]["lr"]
    alone = GridConfig(base_lrs=(1e30,), weight_decays=(0.0,), keep_ratios=(1.0,), final_seeds=(42,))
    with pytest.raises(RunError, match="Every learning rate of the grid diverged"):
        train_by_the_paper(task, CONFIG, tmp_path / "alone", grid=alone)


def test_the_grid_is_settable_and_kept(task: e2vpt.Task, tmp_path: Path) -> None:
    """AdamW where SGD does not train; another grid in the same folder is refused."""
    grid = dataclasses.replace(GRID, grid_optimizer="adamw", base_lrs=(0.1,), keep_ratios=(0.5,))
    rows = train_by_the_paper(task, CONFIG, tmp_path / "run", grid=grid)
    assert len(rows) == grid.num_trainings() == 4
    saved = [json.loads(path.read_text()) for path in (tmp_path / "run").rglob("config.json")]
    assert [c["train"]["optimizer"] for c in saved if "train" in c] == ["adamw"]
    kept = json.loads((tmp_path / "run/grid/config.json").read_text())
    assert to_dict(grid).items() <= kept.items()
    other = dataclasses.replace(GRID, grid_optimizer="adamw")
    with pytest.raises(RunError, match=r"other settings: base_lrs .*; keep_ratios .*grid/config.json"):
        train_by_the_paper(task, CONFIG, tmp_path / "run", grid=other, resume=True)


def test_everything_but_the_grid_is_as_published(task: e2vpt.Task, tmp_path: Path) -> None:
    prompts = dataclasses.replace(CONFIG.prompts, init="patch", kv_init="patch")
    config = dataclasses.replace(CONFIG, prompts=prompts, data=DataConfig(augment="auto"))
    grid = dataclasses.replace(GRID, base_lrs=(1.0,), keep_ratios=(1.0,), final_seeds=(42,))
    train_by_the_paper(task, config, tmp_path / "run", grid=grid, prune=PruneConfig(masks="per-block"))
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert (saved["prompts"]["init"], saved["prompts"]["kv_init"]) == ("uniform", "kaiming")
    assert (saved["train"]["label_smoothing"], saved["options"]["beside"]) == (0.0, "none")
    assert (saved["train"]["optimizer"], saved["data"]["augment"]) == ("sgd", "none")
    scores = load_scores(tmp_path / "run/scores.safetensors", {})
    assert scores is not None and scores.shared
    info = read_adapter(tmp_path / "run/adapter.safetensors")
    assert (info.prompts.init, info.options.beside) == ("uniform", "none")


def test_a_row_of_a_table_starts_and_ends_in_its_own_way(task: e2vpt.Task, tmp_path: Path) -> None:
    """Rows bring their prompts, and FGVC's final trainings have validation images to choose an epoch by."""
    prompts = dataclasses.replace(CONFIG.prompts, init="patch", kv_init="patch")
    config = dataclasses.replace(CONFIG, prompts=prompts)
    grid = dataclasses.replace(GRID, base_lrs=(1.0,), keep_ratios=(), final_seeds=(42,))
    how: dict[str, Any] = {"final_on": "train", "published_start": False}
    rows = train_by_the_paper(task, config, tmp_path / "run", grid=grid, **how)
    assert [row["stage"] for row in rows] == ["grid", "final"] and rows[1]["accuracy"] is not None
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert (saved["prompts"]["init"], saved["prompts"]["kv_init"]) == ("patch", "patch")
    assert (saved["options"]["beside"], saved["train"]["label_smoothing"]) == ("auto", 0.0)
    with pytest.raises(RunError, match=r"final_on train, now train\+val"):
        train_by_the_paper(task, config, tmp_path / "run", grid=grid, published_start=False, resume=True)


def test_full_fine_tuning_is_trained_by_adamw(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(task: object, config: RunConfig, *rest: object, **options: Any) -> None:
        assert config.train.optimizer == "adamw"
        assert options["parts"]["grid"]["base_lrs"] == [0.005, 0.001, 0.0005, 0.0001]
        raise KeyboardInterrupt

    monkeypatch.setattr(e2vpt.runs.protocol, "opened_run", opened)
    with pytest.raises(KeyboardInterrupt):
        train_by_the_paper(task, dataclasses.replace(CONFIG, method="full"), tmp_path / "run")


def test_ties_go_to_the_smaller_rate_then_to_fewer_prompts() -> None:
    assert _best([row(), row(lr=0.1), row(lr=0.5)])["lr"] == 0.1
    assert _best([row(kept=0.9), row(kept=0.2, loss=2.0)])["kept"] == 0.2
    assert _best([row(accuracy=0.6, lr=9), row(lr=0.1)])["lr"] == 9
    assert _best([row(diverged=True, accuracy=0.0, loss=None, lr=0.1), row(accuracy=0.0)])["lr"] == 1.0


def test_it_needs_validation_images(tmp_path: Path) -> None:
    write_images(tmp_path / "only/train", 4)
    task = e2vpt.load_task(tmp_path / "only", DataConfig(val_fraction=0))
    assert task.val is None
    with pytest.raises(ConfigError, match="chooses on validation images"):
        train_by_the_paper(task, CONFIG, tmp_path / "run", grid=GRID)
    assert not (tmp_path / "run").exists()


def test_a_broken_table_is_named(
    task: e2vpt.Task, whole: tuple[Path, list[dict[str, Any]], list[str]], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path / "run")
    (tmp_path / "run/trials.jsonl").write_text("{")
    with pytest.raises(RunError, match=r"trials.jsonl cannot be read"):
        train_by_the_paper(task, CONFIG, tmp_path / "run", grid=GRID, resume=True)
