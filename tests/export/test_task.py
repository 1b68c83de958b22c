"""An exported file gives its model's logits, also where there is neither torch nor this package."""

from __future__ import annotations

import ast
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from PIL import ExifTags, Image
from support.backbones_for_tests import images_for, tiny_swin, tiny_vit, tuned
from support.exported_for_tests import logits_alone
from torch import Tensor, nn

import e2vpt
from e2vpt import MethodConfig, PromptConfig, TaskModel
from e2vpt.data import ImageFile, eval_transform
from e2vpt.errors import ConfigError, ExportError, MissingExtra, RunError
from e2vpt.export.task import export_task
from e2vpt.export.torch_files import NOTES

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(e2vpt.__file__).parent


def task_of(folder: Path, backbone: nn.Module, method: str = "e2vpt", **options: Any) -> TaskModel:
    """A task with random values everywhere, as it is read again from its file."""
    beside, keep = options.pop("beside", "auto"), options.pop("keep", 1)
    model = e2vpt.adapt(backbone, method, PromptConfig(**options), MethodConfig(beside=beside))
    with torch.no_grad():
        for parameter in tuned(model).values():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        for layer in model.modules():
            if isinstance(getattr(layer, "keep", None), Tensor):
                layer.keep[:, ::keep] = keep == 1  # type: ignore[index, operator]
    path = folder / "adapter.safetensors"
    size: Any = tuple(model.patch_embed.img_size)  # type: ignore[union-attr, arg-type]
    prep = e2vpt.Preprocessing(image_size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    e2vpt.save_adapter(model, path, preprocessing=prep)
    return TaskModel(model=model.eval(), info=e2vpt.read_adapter(path), path=path)


@torch.no_grad()
def logits_of(task: TaskModel, images: Tensor) -> Tensor:
    found: Tensor = task.model(images)
    return found


def vit() -> nn.Module:
    return tiny_vit(torch.float32, depth=2)


def swin() -> nn.Module:
    return tiny_swin(torch.float32, depths=(2, 1))


ONNX: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (vit, {"num_visual": 3, "num_kv": 2, "beside": "scale"}),
    "vit-pruned": (vit, {"num_visual": 3, "num_kv": 0, "beside": "scale", "keep": 2}),
    "vit-gated": (vit, {"num_visual": 2, "num_kv": 2, "attention": "gated"}),
    "vit-average": (
        lambda: tiny_vit(torch.float32, depth=2, global_pool="avg", qk_norm=True),
        {"num_visual": 2},
    ),
    "swin": (swin, {"num_visual": 3, "num_kv": 2, "beside": "scale", "share_kv": False}),
    "swin-shallow": (swin, {"num_visual": 2, "num_kv": 0, "visual_depth": "shallow", "beside": "none"}),
    "lora": (vit, {"method": "lora"}),
}


@pytest.mark.parametrize("kind", ONNX)
def test_onnx_without_torch_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    make, options = ONNX[kind]
    task = task_of(tmp_path, make(), **options)
    made = export_task(task, tmp_path / "task.onnx", "onnx")
    assert made.bytes == made.path.stat().st_size
    assert made.difference <= 1e-4
    batches = [images_for(task.model, n, seed=n) for n in (1, 7)]
    alone = logits_alone(made.path, *({"images": images} for images in batches))
    for images, found in zip(batches, alone, strict=True):
        torch.testing.assert_close(found, logits_of(task, images), atol=1e-4, rtol=0)


TORCH = {**{kind: ONNX[kind] for kind in ("vit", "swin")}, "oft": (vit, {"method": "oft"})}


@pytest.mark.parametrize("kind", TORCH)
def test_torch_export_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    make, options = TORCH[kind]
    task = task_of(tmp_path, make(), **options)
    made = export_task(task, tmp_path / "task.pt2", "torch-export")
    notes = {NOTES: ""}
    module = torch.export.load(made.path, extra_files=notes).module()
    for images in (images_for(task.model, 1), images_for(task.model, 7)):
        torch.testing.assert_close(module(images), logits_of(task, images), atol=1e-4, rtol=0)
    assert json.loads(notes[NOTES])["classes"] == list(task.info.classes)
    # Where this package lies on the machine that exported is nobody's concern.
    with zipfile.ZipFile(made.path) as archive:
        assert not [n for n in archive.namelist() if os.fsencode(ROOT) in archive.read(n)]


def test_pixels_are_normalised_in_the_graph_which_says_what_it_is(tmp_path: Path) -> None:
    task = task_of(tmp_path, vit(), num_visual=2)
    made = export_task(task, tmp_path / "task.onnx", "onnx", with_preprocessing=True)
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (task.info.preprocessing.mean, (0.2, 0.3, 0.4)))
    expected = logits_of(task, (pixels.movedim(-1, 1) / 255 - mean) / std)
    (found,) = logits_alone(made.path, {"pixels": pixels})
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    model = onnx.load(made.path)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(notes["classes"]) == list(task.info.classes)
    assert e2vpt.Preprocessing.from_dict(json.loads(notes["preprocessing"])) == task.info.preprocessing
    assert (notes["method"], notes["fingerprint"]) == ("e2vpt", task.info.fingerprint)
    assert json.loads(notes["versions"])["e2vpt"] == e2vpt.__version__
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input]
    assert shapes == [["batch", 32, 32, 3]]
    assert os.fsencode(ROOT) not in model.SerializeToString()


@pytest.mark.parametrize(
    ("side", "crop_pct", "interpolation"),
    [(224, 0.9, "bicubic"), (96, 0.875, "bilinear"), (32, 1.0, "lanczos")],
)
def test_the_guides_client_prepares_images_as_this_package_does(
    side: int, crop_pct: float, interpolation: str, tmp_path: Path
) -> None:
    guide = Path(__file__).parents[2] / "docs/guides/export.md"
    (code,) = [text for text in guide.read_text(encoding="utf-8").split("```") if "def prepared" in text]
    kept = [
        node
        for node in ast.parse(code.removeprefix("python")).body
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef))
    ]
    prep = e2vpt.Preprocessing(
        image_size=(side, side),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation=interpolation,
        crop_pct=crop_pct,
    )
    client: dict[str, Any] = {"prep": prep.to_dict()}
    exec(compile(ast.Module(kept, []), "guide", "exec"), client)
    noise, path, turned = torch.Generator().manual_seed(0), tmp_path / "photo.png", Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    for height, width in ((300, 400), (401, 300), (57, 91), (33, 33)):
        pixels = torch.randint(0, 256, (height, width, 3), generator=noise, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path, exif=turned)
        ours = eval_transform(prep)(ImageFile(name="photo", path=path).open())
        assert torch.equal(torch.tensor(client["prepared"](path)).movedim(-1, 0) / 255, ours)


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    task = task_of(tmp_path, vit(), num_visual=2, beside="scale")
    images, before = images_for(task.model), {k: v.clone() for k, v in task.model.state_dict().items()}
    expected = logits_of(task, images)
    export_task(task, tmp_path / "task.pt2", "torch-export")
    assert before.keys() == task.model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert torch.equal(logits_of(task, images), expected)


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, out = task_of(tmp_path, vit(), num_visual=1), tmp_path / "out"
    with pytest.raises(ConfigError, match="'tflite'; expected onnx or torch-export"):
        export_task(task, out, "tflite")  # type: ignore[arg-type]
    with pytest.raises(RunError, match="is no folder"):
        export_task(task, tmp_path / "missing" / "out", "torch-export")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingExtra, match=r"pip install 'e2vpt\[export\]'"):
            export_task(task, out, "onnx")
    prep = e2vpt.Preprocessing(
        image_size=(32, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="tensorflow-bilinear",
        crop_mode="squash",
    )
    e2vpt.save_adapter(task.model, tmp_path / "tf", preprocessing=prep)
    as_tensorflow = TaskModel(model=task.model, info=e2vpt.read_adapter(tmp_path / "tf"), path=tmp_path)
    with pytest.raises(ConfigError, match="resized in floats"):
        export_task(as_tensorflow, out, "torch-export", with_preprocessing=True)
    monkeypatch.setattr("e2vpt.export.onnx_files._LARGEST", 1000)
    with pytest.raises(ExportError, match=r"holds at most 1000. Export it to torch-export"):
        export_task(task, out, "onnx")
    assert not out.exists()
