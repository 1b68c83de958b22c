"""What `import e2vpt` gives: exactly these names, each documented, and nothing else happens."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import e2vpt
from e2vpt import errors
from e2vpt.cli.app import COMMANDS

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAMES = {
    "AdapterInfo", "DataConfig", "E2VPTClassifier", "E2VPTError", "FitResult", "MethodConfig", "Metrics",
    "MultiTask", "Prediction", "Preprocessing", "PromptConfig", "PruneConfig", "RunConfig", "Task",
    "TaskModel", "TrainConfig", "__version__", "adapt", "disabled", "evaluate", "fit", "folded",
    "init_from_images", "load",
    "load_adapter", "load_backbone", "load_task", "make_loader", "preprocessing_for",
    "print_trainable_parameters", "prompt", "prompt_layers", "read_adapter", "save_adapter", "train",
}  # fmt: skip
# Runs in a fresh interpreter.
FRESH = """
import json, os, sys
seen = []
def watch(event, args):
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes and path != os.devnull:
            seen.append(f"open {path}")
    elif event.split(".")[0] in ("socket", "subprocess", "urllib", "http") or event in (
        "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.system",
        "shutil.rmtree", "os.exec", "os.fork", "os.posix_spawn",
    ):
        if event not in ("socket.__new__", "socket.gethostname"):  # a module's constants, no connection
            seen.append(f"{event} {args}")
sys.addaudithook(watch)
import e2vpt
print(json.dumps({"modules": sorted(sys.modules), "seen": seen}))
"""


def test_exactly_these_names() -> None:
    assert set(e2vpt.__all__) == NAMES
    assert set(dir(e2vpt)) == NAMES


def test_what_a_type_checker_sees_is_what_is_loaded() -> None:
    tree = ast.parse(Path(e2vpt.__file__).read_text())
    (seen,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.name: node.module
        for node in seen.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {name: f"e2vpt.{home}" for name, home in e2vpt._HOME_OF.items()}


def test_each_is_in_the_reference() -> None:
    text = (DOCS / "reference/api.md").read_text()
    named = {line.removeprefix("::: e2vpt.") for line in text.splitlines() if line.startswith("::: ")}
    assert not NAMES - {"__version__"} - named - set(vars(errors) if "errors" in named else ())
    assert set(COMMANDS) <= set(
        re.findall(r"[a-z]+", (DOCS / "reference/cli.md").read_text().split("<!-- help:")[1])
    )


def test_each_is_documented_and_typed() -> None:
    for name in sorted(NAMES - {"__version__"}):
        value = getattr(e2vpt, name)
        text = inspect.getdoc(value) if not inspect.isclass(value) else vars(value).get("__doc__")
        assert text and not text.startswith(f"{name}("), f"{name}: a dataclass shows its signature instead"
        for member, found in vars(value).items() if inspect.isclass(value) else ():
            ours = inspect.isfunction(found) or isinstance(found, (property, classmethod))
            if ours and not member.startswith("_"):
                assert inspect.getdoc(found), f"{name}.{member}"
        if not (inspect.isclass(value) and issubclass(value, Exception)):
            for parameter in inspect.signature(value).parameters.values():
                assert parameter.annotation is not parameter.empty, f"{name}: {parameter}"


def test_packages_are_reached_through_it_and_nothing_else() -> None:
    assert e2vpt.pruning.select is not None and e2vpt.errors.DataError is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        e2vpt.nothing  # noqa: B018


def test_every_error_is_the_packages_and_what_it_was_before() -> None:
    found = [value for value in vars(errors).values() if inspect.isclass(value)]
    own = [value for value in found if value.__module__ == "e2vpt.errors"]
    assert len(own) > 10 and all(issubclass(error, e2vpt.E2VPTError) for error in own)
    assert issubclass(errors.AdapterFormatError, ValueError) and issubclass(
        errors.BackboneMismatch, ValueError
    )
    assert issubclass(errors.MissingExtra, ImportError) and issubclass(errors.RunError, RuntimeError)


def test_import_is_light_and_touches_nothing() -> None:
    command = [sys.executable, "-B", "-W", "error", "-c", FRESH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    optional = {"torch", "timm", "torchvision", "numpy", "accelerate", "rich", "typer", "sklearn"}
    optional |= {"datasets", "matplotlib", "pandas", "transformers"}
    optional |= {"optuna", "ray"}
    assert not optional & {name.split(".")[0] for name in report["modules"]}
    assert report["seen"] == []
    assert done.stderr == ""


@pytest.mark.parametrize(
    "value", [{"num_visual": 5}, 3, object(), np.array([1, 2])], ids=lambda value: type(value).__name__
)
def test_arguments_of_other_types_are_refused_by_name(value: Any, tmp_path: Path) -> None:
    backbone = e2vpt.load_backbone("demo", num_classes=2)
    model = e2vpt.prompt(e2vpt.load_backbone("demo", num_classes=2))
    calls = {
        "config": [
            lambda: e2vpt.prompt(backbone, value),
            lambda: e2vpt.fit(model, [], None, value),
            lambda: e2vpt.load_task(tmp_path, value),
            lambda: e2vpt.preprocessing_for(backbone, value),
        ],
        "prompts": [
            lambda: e2vpt.adapt(backbone, "e2vpt", value),
            lambda: e2vpt.RunConfig(backbone="demo", prompts=value),
        ],
        "model": [
            lambda: e2vpt.evaluate(value, []),
            lambda: e2vpt.prompt_layers(value),
            lambda: e2vpt.print_trainable_parameters(value),
            lambda: e2vpt.save_adapter(value, tmp_path / "a.safetensors", classes=["a", "b"]),
        ],
        "name": [lambda: e2vpt.load_backbone(value, num_classes=2)],
        "source": [lambda: e2vpt.load_task(value)],
        "adapter_or_run": [lambda: e2vpt.load(value)],
        "path": [lambda: e2vpt.read_adapter(value)],
    }
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(e2vpt.E2VPTError, match=f"{name} is of type {type(value).__name__}; expected"):
                function()


def test_numbers_of_numpy_are_numbers() -> None:
    made = e2vpt.TrainConfig(epochs=np.int64(3), lr=np.float32(0.5), grad_checkpointing=np.bool_(True))
    assert (made.epochs, made.lr, made.grad_checkpointing) == (3, 0.5, True)
    assert type(made.epochs) is int and type(made.lr) is float
    assert e2vpt.PromptConfig(num_visual=(np.int64(2), 3)).num_visual == (2, 3)
    for setting in ({"seed": 2**70}, {"lr": 1e301}, {"epochs": True}, {"lr": True}, {"seed": 10**5000}):
        with pytest.raises(e2vpt.E2VPTError, match=next(iter(setting))):
            e2vpt.TrainConfig(**setting)


def test_arrays_are_no_words(tmp_path: Path) -> None:
    array, model = np.array([1, 2]), e2vpt.prompt(e2vpt.load_backbone("demo", num_classes=2))
    calls = {
        "backbone": [
            lambda: e2vpt.train(tmp_path, array),
            lambda: e2vpt.load_adapter(tmp_path / "a.safetensors", array),
        ],
        "method": [lambda: e2vpt.train(tmp_path, "demo", method=array)],
        "prune": [lambda: e2vpt.train(tmp_path, "demo", prune=array)],
        "device": [lambda: e2vpt.load(tmp_path, device=array)],
        "images": [lambda: e2vpt.init_from_images(model, array)],
    }
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(e2vpt.E2VPTError, match=f"{name} is of type ndarray; expected"):
                function()
    with pytest.raises(e2vpt.E2VPTError, match=r"images have shape \[2\]; expected \[n, 3, h, w\]"):
        e2vpt.init_from_images(model, torch.zeros(2))
