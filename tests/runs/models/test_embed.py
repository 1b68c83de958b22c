"""Features in files: numbers, CSV, Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet
from support.tasks_for_tests import tiny_vit, write_task

import e2vpt
from e2vpt.errors import ConfigError
from e2vpt.runs.models.embed import features, write_features

Command = Callable[..., tuple[int, str, str]]
NAMES = ["a b.png", "ü,1.png"]
ROWS = np.array([[1.5, -2.25], [0.1, 3e-8]], dtype=np.float32)


def test_every_kind_of_file_holds_the_same(tmp_path: Path) -> None:
    array, names = write_features(tmp_path / "f.npy", NAMES, ROWS)
    assert np.array_equal(np.load(array), ROWS)
    assert names.read_text().splitlines() == NAMES
    (table,) = write_features(tmp_path / "f.csv", NAMES, ROWS)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == NAMES
    assert np.array_equal(np.array([[row["f0"], row["f1"]] for row in rows], dtype=np.float32), ROWS)
    (columns,) = write_features(tmp_path / "f.parquet", NAMES, ROWS)
    found = parquet.read_table(columns).to_pydict()
    assert found["file"] == NAMES
    assert np.array_equal(np.array([found["f0"], found["f1"]], dtype=np.float32).T, ROWS)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.npy, \.csv or \.parquet"):
        write_features(tmp_path / "f.xlsx", NAMES, ROWS)


@pytest.mark.parametrize("method", ["linear", "mlp", "sidetune", "bias"])
def test_the_heads_input_of_every_kind_of_model(method: str) -> None:
    backbone = tiny_backbone()
    model = e2vpt.adapt(backbone, method).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)
        found = model.get_classifier()(features(model, images))  # type: ignore[operator]
    assert torch.allclose(found, expected, atol=1e-5)


def tiny_backbone() -> torch.nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=3)


def test_no_hook_is_left_behind() -> None:
    model = tiny_vit(torch.float32).eval()
    features(model, torch.randn(1, 3, 16, 16))
    assert not model.get_classifier()._forward_pre_hooks  # type: ignore[operator]


def test_the_command_writes_them(tmp_path: Path, e2vpt_command: Command) -> None:
    data = write_task(tmp_path / "data")
    model = e2vpt.train(data, "demo", tmp_path / "run", prune=False, epochs=1, verbose=False)
    out = tmp_path / "features.npy"
    code, printed, err = e2vpt_command("embed", str(tmp_path / "run"), str(data / "test"), "--out", str(out))
    assert code == 0, err
    assert printed.split() == [str(out), str(out.with_suffix(".txt"))]
    assert np.array_equal(np.load(out), model.embed(data / "test"))
    code, _, err = e2vpt_command(
        "embed", str(tmp_path / "run"), str(data / "test"), "--out", str(tmp_path / "f.json")
    )
    assert code == 1 and ".npy, .csv or .parquet" in err
