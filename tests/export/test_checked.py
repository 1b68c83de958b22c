"""A file that computes something else than the model is not kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from e2vpt.errors import ExportError
from e2vpt.export.checked import Reference, write_checked
from e2vpt.export.graphs import trace


@pytest.mark.parametrize("off", [2e-4, float("nan")])
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_another_answer_than_the_models_is_refused(tmp_path: Path, form: str, off: float) -> None:
    model, images, out = nn.Linear(4, 3).eval(), torch.randn(2, 4), tmp_path / "out"
    program = trace(model, [images])
    logits = model(images).detach()
    out.write_bytes(b"what was here")
    logits[1, 2] += off
    with pytest.raises(ExportError, match="differ from the model's by up to"):
        write_checked(out, program, form, {}, [Reference(inputs={"images": images}, logits=logits)])  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="differ from the model's by up to inf"):
        write_checked(out, program, form, {}, [Reference(inputs={"images": images}, logits=logits[:, :2])])  # type: ignore[arg-type]
    assert out.read_bytes() == b"what was here"
    assert list(tmp_path.iterdir()) == [out]


def test_one_image_of_several_batches_is_enough_to_refuse(tmp_path: Path) -> None:
    model = nn.Linear(4, 3).eval()
    program, images = trace(model, [torch.randn(2, 4)]), torch.randn(7, 4)
    good = Reference(inputs={"images": images}, logits=model(images).detach())
    bad = Reference(inputs={"images": images[:1]}, logits=good.logits[:1] + 1)
    with pytest.raises(ExportError, match=r"by up to 1.0e\+00"):
        write_checked(tmp_path / "out", program, "torch-export", {}, [bad, good])
    made = write_checked(tmp_path / "out", program, "torch-export", {}, [good])
    assert made.difference < 1e-5
