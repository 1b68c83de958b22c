"""The house rules that a machine can hold: imports go one way, files stay small, nothing is unpickled."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import e2vpt

ROOT = Path(e2vpt.__file__).parent
MAX_LINES = 350

# Top-down: a module imports only from those above it. A new module gets its place here.
ORDER = [
    *("errors", "fields", "segments", "config", "config_search", "storage", "container"),
    *("sites", "prompts", "tables", "attention", "vit", "swin", "model", "frozen", "bf16"),
    *("hub", "weight_files", "weights", "backbones", "bottleneck", "peft_methods", "methods"),
    *("data.pixels", "data.images", "data.task", "data.randomness", "data.splits"),
    *("data.listing", "data.folders", "data.tables", "data.hub", "data.objects"),
    *("data.tfrecord", "data.tfds", "data.image_lists", "data.vtab_tasks", "data.vtab_hub", "data.vtab"),
    *("data.matlab_format", "data.matlab", "data.fgvc_lists", "data.fgvc_folders", "data.fgvc_birds"),
    *("data.fgvc_flowers", "data.fgvc_dogs", "data.fgvc_cars", "data.fgvc_splits", "data.fgvc"),
    *("data.fgvc_places", "data.headers", "data.check"),
    *("data.preprocess", "data.transforms", "data.samples", "data.batches", "data.loaders", "data"),
    *("packing", "header", "matching", "adapter"),
    *("sums", "replay", "evaluate", "scores", "prune", "pruned_files", "checkpoint", "processes"),
    *("run_folder", "train", "prefix", "run", "recipe", "paper", "predict"),
    *("search_space", "search", "cluster", "search_cluster"),
    *("bench.carried", "bench.contestants", "bench.clock", "bench.cost", "bench.machine", "bench.figures"),
    *("bench.speed", "bench.speed_report", "bench.growth", "bench.epoch", "bench"),
    *("spread", "compared", "trial", "compare", "compare_report"),
    *("progress", "output", "flags", "estimator", "demo"),
    *("suite.published", "suite.tasks", "suite.cell", "suite.run", "suite.report", "suite.plan", "suite"),
    *("cli_options", "cli_train", "cli_bench", "cli_suite", "cli_compare", "cli"),
]
# On top of everything: what `import e2vpt` and `python -m e2vpt` see.
FACES = ("__init__", "__main__")

PATHS = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {
    name.removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
    for name, path in PATHS.items()
}
every_module = pytest.mark.parametrize("name", TREES)


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module of this package that a module imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports here are absolute"
            if node.module == "e2vpt":
                yield from ("" if alias.name not in TREES else alias.name for alias in node.names)
            elif node.module and node.module.startswith("e2vpt."):
                inner = [f"{node.module}.{alias.name}".removeprefix("e2vpt.") for alias in node.names]
                yield from (name if name in TREES else node.module.removeprefix("e2vpt.") for name in inner)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "e2vpt"]
            yield from (name.removeprefix("e2vpt").removeprefix(".") for name in names)


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_every_module_has_its_place() -> None:
    assert set(ORDER) == TREES.keys() - set(FACES)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_come_from_above(name: str) -> None:
    below = [found for found in imports(TREES[name]) if found not in ORDER[: ORDER.index(name)]]
    assert not below, f"{name} imports {below}, which do not stand above it"


def test_the_parser_of_imports_sees_all_forms() -> None:
    source = "import e2vpt.data.hub, os\nfrom e2vpt import model\nfrom e2vpt.data import hub, load_task\n"
    inner = "def f():\n    from e2vpt.errors import E2VPTError\n    import e2vpt\n"
    found = list(imports(ast.parse(source + inner)))
    assert sorted(found) == ["", "data", "data.hub", "data.hub", "errors", "model"]


@every_module
def test_modules_say_what_they_are_for(name: str) -> None:
    assert ast.get_docstring(TREES[name])


@every_module
def test_public_names_are_documented(name: str) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.iter_child_nodes(TREES[name]):
        if isinstance(node, kinds) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"


@pytest.mark.parametrize("name", PATHS)
def test_files_stay_small(name: str) -> None:
    assert len(PATHS[name].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_no_room_without_a_purpose() -> None:
    forbidden = {"utils", "util", "helpers", "common", "misc"}
    assert not [name for name in PATHS if forbidden & set(name.split("."))]


@every_module
def test_nothing_is_unpickled(name: str) -> None:
    for called, node in calls(TREES[name]):
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called == "torch.load":
            assert keywords.get("weights_only") == "True", f"{name}:{node.lineno}"
        if called in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False", f"{name}:{node.lineno}"
        assert called not in ("eval", "exec"), f"{name}:{node.lineno}"
    for node in ast.walk(TREES[name]):
        # The error's name only, to tell a refused weights file from a broken one.
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("pickle", "dill", "joblib"):
            assert node.attr == "UnpicklingError", f"{name}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("pickle", "dill", "joblib"), f"{name}:{node.lineno}"
