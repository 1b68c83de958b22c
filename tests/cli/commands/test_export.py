"""e2vpt export: one of three forms, and what it says of the file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import e2vpt

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    model = e2vpt.load_backbone("demo", num_classes=3)
    e2vpt.adapt(model, "e2vpt", e2vpt.PromptConfig(num_visual=2, num_kv=1))
    with torch.no_grad():
        model.head.weight.normal_()  # type: ignore[union-attr, operator]
    path = tmp_path / "adapter.safetensors"
    e2vpt.save_adapter(model, path, classes=["cat", "dog", "fox"])
    return str(path)


def test_each_form_is_written_and_said(adapter: str, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    for words in (
        ["--format", "onnx", "--with-preprocessing"],
        ["--bundle"],
    ):
        out = tmp_path / f"out-{words[-1]}"
        code, said, err = e2vpt_command("export", adapter, "--out", str(out), *words)
        assert (code, err) == (0, "")
        found = re.fullmatch(r"(.+): (\d+) bytes; logits of 1 and 7 images within (.+)\n", said)
        assert found is not None
        assert (found[1], int(found[2])) == (str(out), out.stat().st_size)
        assert float(found[3]) <= 1e-4


def test_a_bundle_answers_as_the_adapter_does(adapter: str, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    out, photo = str(tmp_path / "bundle.safetensors"), tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(photo)
    assert e2vpt_command("export", adapter, "--bundle", "--out", out)[0] == 0
    predicted = [e2vpt_command("predict", file, str(photo), "--json")[1] for file in (adapter, out)]
    assert predicted[0] == predicted[1] != ""
    assert json.loads(e2vpt_command("info", out, "--json")[1])["bundled"] is True
    assert "fp32, with the backbone" in e2vpt_command("info", out)[1]
    code, _, err = e2vpt_command("embed", out, str(photo), "--out", str(tmp_path / "features.npy"))
    assert (code, (tmp_path / "features.npy").exists()) == (0, True), err


def test_several_adapters_become_one_file(adapter: str, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "cars"
    run.mkdir()
    for copy in ("adapter.safetensors", "pets.safetensors"):
        (run / copy).write_bytes(Path(adapter).read_bytes())
    out = tmp_path / "tasks.pt2"
    words = ("export", str(run), str(run / "pets.safetensors"), "--format", "torch-export", "--out")
    code, said, err = e2vpt_command(*words, str(out))
    assert (code, err) == (0, "")
    assert "tasks.vectors.safetensors: a vector for each of 2 tasks" in said
    assert sorted(load_file(tmp_path / "tasks.vectors.safetensors")) == ["cars", "pets"]
    code, _, err = e2vpt_command("export", str(run), str(run), "--format", "onnx", "--out", str(out))
    assert (code, "Two adapters are called cars" in err) == (1, True)
    code, _, err = e2vpt_command("export", str(run), adapter, "--bundle", "--out", str(out))
    assert (code, "--bundle is for one adapter; 2 were given" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Choose one"),
        (["--bundle", "--format", "onnx"], "Choose one"),
        (["--bundle", "--with-preprocessing"], "--with-preprocessing has no effect with --bundle"),
    ],
)
def test_flags_that_contradict_each_other(
    words: list[str], said: str, adapter: str, tmp_path: Path, e2vpt_command
) -> None:  # type: ignore[no-untyped-def]
    code, _, err = e2vpt_command("export", adapter, "--out", str(tmp_path / "out"), *words)
    assert code == 1
    assert said in err
    assert not (tmp_path / "out").exists()


def test_where_it_cannot_be_written_is_said_first(adapter: str, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    for words in (["--format", "onnx"], ["--bundle"]):
        code, _, err = e2vpt_command("export", adapter, "--out", str(tmp_path), *words)
        assert code == 1
        assert "it is a folder. Name a file" in err
