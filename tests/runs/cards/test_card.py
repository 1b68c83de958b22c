"""The card of a run: written with its adapter, the same after a resume, and never over somebody's edits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt.errors import RunError
from e2vpt.runs.cards.card import card_of, is_generated, write_card


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a run of one epoch."""
    home = tmp_path_factory.mktemp("home")
    write_task(home / "shapes")
    settings = {"epochs": 1, "num_visual": 2, "prune": False, "verbose": False}
    e2vpt.train(home / "shapes", "demo", home / "run", **settings)
    return home


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def test_a_run_has_its_card(trained: Path) -> None:
    text = (trained / "run/README.md").read_text()
    card = ModelCard(text)
    assert is_generated(text) and card.data.model_name == "shapes"
    assert "Classes: bars, disc, ring" in text
    assert "| train | 18 |" in text and "| val | 9 |" in text and "| test | 12 |" in text
    assert str(trained) not in text and "00.png" not in text
    info = e2vpt.read_adapter(trained / "run/adapter.safetensors")
    assert card.data.eval_results[0].metric_value == round(info.metrics["val_accuracy"], 6)
    assert f"{info.bytes:,} bytes" in text


def test_a_resume_writes_the_same_card(trained: Path) -> None:
    path = trained / "run/README.md"
    before = path.read_bytes()
    path.unlink()
    e2vpt.train(out=trained / "run", resume=True, verbose=False)
    assert path.read_bytes() == before


def test_an_edited_card_stays(trained: Path, run: Path) -> None:
    card = run / "README.md"
    edited = card.read_text().replace("# license: choose", "license: mit  # choose")
    for text in (edited, edited.replace("<!-- e2vpt", "<!-- gone"), "mine\n", ""):
        card.write_text(text)
        assert not is_generated(text) and not write_card(run)
        assert card.read_text() == text
    card.write_bytes(b"\xff\xfe mine")
    assert not write_card(run) and card.read_bytes() == b"\xff\xfe mine"


def test_a_card_that_nobody_edited_follows_its_adapter(run: Path) -> None:
    card = run / "README.md"
    before = card.read_text()
    e2vpt.save_adapter(e2vpt.load(run).model, run / "adapter.safetensors", metrics={"val_accuracy": 0.5})
    assert write_card(run)
    assert "| validation accuracy | 50.0% |" in card.read_text() != before


def test_a_card_in_the_way(run: Path) -> None:
    (run / "README.md").unlink()
    (run / "README.md").mkdir()
    with pytest.raises(RunError, match=r"README\.md cannot be read"):
        write_card(run)


def test_an_adapter_alone(run: Path, tmp_path: Path) -> None:
    alone = shutil.copy(run / "adapter.safetensors", tmp_path / "pets.safetensors")
    text = card_of(Path(alone))
    assert is_generated(text) and "# pets\n" in text and "| train |" not in text


def test_the_augmentation_that_a_run_chose(run: Path) -> None:
    assert "| augmentation | none |" in (run / "README.md").read_text(), "of one epoch, which asks nothing"
    (run / "augmentation.json").write_text('{"augment": "crop-flip"}')
    assert "| augmentation | crop-flip |" in card_of(run / "adapter.safetensors")


def test_the_best_of_a_search_has_no_settings_of_the_search(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"search": {}}))
    assert "| lr |" not in card_of(run / "adapter.safetensors")
    (run / "config.json").write_text(json.dumps(config))
    assert "| lr |" in card_of(run / "adapter.safetensors")
