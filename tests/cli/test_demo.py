"""The demo's data and table; the demo itself, at full length, is run by .ci/run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from e2vpt import TrainConfig, read_adapter
from e2vpt.cli import demo as module
from e2vpt.cli.app import main


def test_digits_become_files_split_once_and_for_all(tmp_path: Path) -> None:
    folder = module.write_digits(tmp_path / "digits")
    files = sorted(folder.rglob("*.png"))
    assert len(files) == 1797
    assert [len(list((folder / split).rglob("*.png"))) for split in ("train", "val", "test")] == [
        1000,
        200,
        597,
    ]
    data = load_digits()
    assert len({path.stem for path in files}) == 1797
    for path in files[::97]:
        index = int(path.stem)
        assert path.parent.name == str(data.target[index])
        pixels = np.asarray(Image.open(path))
        assert np.array_equal(pixels, np.uint8(255 - data.images[index] * 255 / 16))
    before = {path: path.stat().st_mtime_ns for path in files}
    module.write_digits(folder)
    assert before == {path: path.stat().st_mtime_ns for path in files}


def test_the_demo_compares_both_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = TrainConfig(epochs=1, batch_size=100, lr=0.01)
    configs = {name: dataclasses.replace(config, train=short) for name, config in module._CONFIGS.items()}
    monkeypatch.setattr(module, "_CONFIGS", configs)
    outcomes = module.run_demo(Path("runs/demo"))
    assert [o.method for o in outcomes] == ["linear", "e2vpt"]
    for outcome in outcomes:
        info = read_adapter(f"runs/demo/{outcome.method}/adapter.safetensors")
        assert (outcome.num_tuned, outcome.num_head, outcome.num_bytes) == (
            info.num_tuned,
            info.num_head,
            info.bytes,
        )
    shown = capsys.readouterr().out
    for outcome in outcomes:
        assert f"{outcome.accuracy:.1%}" in shown
        assert f"{outcome.num_bytes:,}" in shown
    assert module.run_demo(Path("runs/demo")) == outcomes

    command = next(line for line in shown.splitlines() if "e2vpt predict" in line).split()
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code in (0, None)
