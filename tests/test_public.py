"""What `import e2vpt` gives: exactly these names, each documented, and nothing else happens."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from types import GenericAlias, ModuleType

import e2vpt

NAMES = [
    "AdapterError", "AdapterFormatError", "AdapterInfo", "BackboneError", "BackboneMismatch",
    "BlockPrompts", "ComparedMethod", "Comparison", "ConfigError", "DataConfig", "DataError", "Diverged",
    "E2VPTClassifier", "E2VPTError", "FitResult", "GridConfig", "MethodConfig", "Metrics", "MissingExtra",
    "Prediction", "Preprocessing",
    "PromptConfig", "PruneConfig", "Pruned", "Reporting", "Row", "RunConfig", "RunError", "Scores",
    "SearchConfig", "Selection", "Snapshot", "Split", "StepReport", "Task", "TrainConfig", "Trained",
    "TrialResult", "Tried", "UnreadableImages", "UnsupportedBackbone", "WeightsError", "adapt", "apply",
    "compare_methods",
    "disabled", "evaluate", "fingerprint", "fit", "from_datasets", "init_from_images", "load_adapter",
    "load_backbone", "load_task", "make_loader", "preprocessing_for", "prompt", "prompt_layers",
    "read_adapter", "rewind", "save_adapter", "score", "search_here", "search_on_cluster", "select",
    "snapshot", "train_and_prune", "train_by_the_paper", "train_run", "visual_kept",
]  # fmt: skip
# Runs in a fresh interpreter. torch, timm and torchvision come first, unwatched: torch itself looks for
# compilers and makes folders when it is imported.
FRESH = """
import json, os, sys
import torch, timm, torchvision
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


def public() -> dict[str, object]:
    """Every public name but the modules, which the imports put there."""
    names = {name: value for name, value in vars(e2vpt).items() if not name.startswith("_")}
    return {name: value for name, value in names.items() if not isinstance(value, ModuleType)}


def test_exactly_these_names() -> None:
    functions = {name for name, value in public().items() if name != "annotations"}
    assert functions == set(NAMES)


def test_each_is_documented() -> None:
    silent = []
    for name in NAMES:
        value = getattr(e2vpt, name)
        if isinstance(value, GenericAlias):  # an alias of a plain type has no place for a docstring
            continue
        text = inspect.getdoc(value) if not inspect.isclass(value) else vars(value).get("__doc__")
        if not text or text.startswith(f"{name}("):  # a dataclass without a docstring shows its signature
            silent.append(name)
        for member, found in vars(value).items() if inspect.isclass(value) else ():
            ours = inspect.isfunction(found) or isinstance(found, (property, classmethod))
            if ours and not member.startswith("_") and not inspect.getdoc(found):
                silent.append(f"{name}.{member}")
    assert silent == []


def test_each_signature_is_typed() -> None:
    untyped = []
    for name in NAMES:
        value = getattr(e2vpt, name)
        is_error = inspect.isclass(value) and issubclass(value, Exception)
        if isinstance(value, GenericAlias) or is_error or not callable(value):
            continue
        parameters = inspect.signature(value).parameters.values()
        untyped += [f"{name}: {p}" for p in parameters if p.annotation is p.empty]
    assert untyped == []


def test_every_error_is_the_packages_and_what_it_was_before() -> None:
    errors = [value for value in public().values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert all(issubclass(error, e2vpt.E2VPTError) for error in errors)
    assert issubclass(e2vpt.AdapterFormatError, ValueError) and issubclass(e2vpt.BackboneMismatch, ValueError)
    assert issubclass(e2vpt.MissingExtra, ImportError) and issubclass(e2vpt.RunError, RuntimeError)
    in_module = {name for name, value in vars(e2vpt.errors).items() if inspect.isclass(value)}
    assert {error.__name__ for error in errors} == in_module - {"Mapping"}


def test_import_is_light_and_touches_nothing() -> None:
    command = [sys.executable, "-B", "-W", "error", "-c", FRESH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    optional = {"accelerate", "rich", "typer", "sklearn", "datasets", "matplotlib", "pandas", "transformers"}
    optional |= {"optuna", "ray"}
    assert not optional & {name.split(".")[0] for name in report["modules"]}
    assert report["seen"] == []
    assert done.stderr == ""
