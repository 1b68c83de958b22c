"""e2vpt explain: files, figures, and flags that would have no effect."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import e2vpt
from e2vpt.cli.jobs.drawings import place_names, write_drawings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters of drawings, e2vpt's and a head alone, untrained."""
    made = tmp_path_factory.mktemp("explain")
    write_drawings(made / "data", {"train": 1, "val": 1, "test": 3})
    for method in ("e2vpt", "linear"):
        torch.manual_seed(0)
        model = e2vpt.load_backbone("demo", num_classes=len(place_names()))
        e2vpt.adapt(model, method, e2vpt.PromptConfig(num_visual=2, num_kv=1, init="uniform"))
        torch.nn.init.normal_(model.head.weight)  # type: ignore[arg-type, union-attr]
        (made / method).mkdir()
        e2vpt.save_adapter(model, made / method / "adapter.safetensors", classes=place_names())
    return made


def test_pictures_are_explained_beside_another_run(folder: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    drawing = folder / "data" / "test" / place_names()[0] / "000.png"
    words = ["explain", str(folder / "e2vpt"), str(drawing), "--beside", str(folder / "linear")]
    code, said, err = e2vpt_command(*words, "--steps", "2", "--json")
    assert code == 0, err
    first, second = map(json.loads, said.splitlines())
    assert (first["run"], second["run"]) == ("e2vpt", "linear")
    assert first["explained"] == first["classes"][0] == second["explained"]
    assert math.fsum(first["attention"][0][0]) == pytest.approx(1)
    assert first["without_prompts"] and second["without_prompts"] is None
    out = folder / "e2vpt" / "explain"
    assert {path.name for path in out.iterdir()} == {"explain.html", "01-000.png"}
    with Image.open(out / "01-000.png") as image:
        assert image.format == "PNG"
    code, said, _ = e2vpt_command(*words, "--steps", "2", "--class", place_names()[1])
    lines = said.splitlines()
    assert code == 0 and "without the prompts" in lines[0] and "key-value prompts" in lines[0]
    assert "prompts" not in lines[1] and lines[2] == str(out / "explain.html")


def test_what_cannot_be_is_refused_and_writes_nothing(folder: Path, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    run, data, out = str(folder / "linear"), str(folder / "data"), str(tmp_path / "out")
    for words, expected in (
        ([], "Name pictures to explain, or labelled images to plot with --embed DATA"),
        ([str(broken)], "broken.png"),
        ([str(broken), "--class", "car"], "linear does not know the class 'car'"),
        ([str(broken), "--beside", run], "stands beside itself"),
        ([str(broken), "--seed", "1"], "--seed has no effect without --embed"),
        ([str(broken), "--embed", data], "PICTURES has no effect with --embed"),
        (["--embed", data, "--class", "car"], "--class has no effect with --embed"),
        ([data], "are too many for one page; name at most 50"),
        (["--embed", str(tmp_path / "nowhere")], "does not exist"),
    ):
        code, said, err = e2vpt_command("explain", run, *words, "--out", out)
        assert (code, said) == (1, "") and expected in err, err
        assert not Path(out).exists()


@pytest.mark.parametrize("missing", ["captum.attr", "matplotlib", "umap"])
def test_a_missing_extra_is_said_before_anything_is_loaded(
    missing: str,
    tmp_path: Path,
    e2vpt_command,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "adapter.safetensors").write_bytes(b"no adapter")
    monkeypatch.setitem(sys.modules, missing, None)
    what = ["--embed", "nowhere"] if missing == "umap" else ["a.png"]
    code, _, err = e2vpt_command("explain", str(tmp_path), *what)
    assert code == 1 and "pip install 'e2vpt[explain]'" in err


def test_unreadable_pictures_can_be_left_out(folder: Path, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.linear_gradient("L").save(tmp_path / "good.png")
    words = ["explain", str(folder / "linear"), str(tmp_path / "broken.png"), str(tmp_path / "good.png")]
    out = ["--steps", "2", "--out", str(tmp_path / "out")]
    assert e2vpt_command(*words, *out)[0] == 1
    code, said, err = e2vpt_command(*words, *out, "--skip-unreadable")
    assert code == 0 and "good.png: " in said and "broken.png" in err


def test_embedding_plots_print_their_figures(folder: Path, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    words = ["explain", str(folder / "e2vpt"), "--embed", str(folder / "data"), "--out", str(tmp_path)]
    code, said, err = e2vpt_command(*words, "--max-images", "25", "--json")
    assert code == 0, err
    figures = json.loads(said)
    assert figures["split"] == "test" and 10 <= figures["num_images"] <= 25
    for when in ("before", "after"):
        for space in ("features", "hyperbolic", "euclidean"):
            assert -1 <= figures[when][space]["silhouette"] <= 1
            assert 0 <= figures[when][space]["nearest_centroid"] <= 1
    assert "25 of 48 images are drawn (seed 0)" in err and "a single image are left out" in err
    assert {path.name for path in tmp_path.iterdir()} == {"embedding.html", "embedding.png"}
