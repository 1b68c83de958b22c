"""The house rules that a machine can hold: imports go one way, names mean one thing, nothing is unpickled."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.architecture import (
    FACES,
    Tree,
    circle,
    defined_twice,
    from_below,
    importers,
    imports,
    of_no_module,
    places,
    read_tree,
)

import e2vpt

ROOT = Path(e2vpt.__file__).parent
TREE = read_tree(ROOT)

# Top-down: a package imports only from those above it. A new package gets its place here.
ORDER = [
    *("errors", "config", "files", "backbones", "prompting", "pruning", "methods", "data", "adapters"),
    *("training", "runs", "search", "multitask", "serving", "export", "insight", "benchmarks", "cli"),
]
# The same inside the packages that have packages.
INSIDE = {
    "benchmarks": [
        "machine",
        "spread",
        "tables",
        "cost",
        "speed",
        "load",
        "compare",
        "vtab",
        "fgvc",
        "suite",
    ],
    "cli": ["options", "flags", "output", "jobs", "commands", "app"],
    "insight": ["documents", "explanations", "reports"],
    "prompting": [
        *("scaled_frozen", "sites", "tuned_linear", "token_path", "tables", "prompts", "attend", "attention"),
        *("parts", "families", "initial", "restoring", "folding", "install", "rows"),
    ],
    "data": [
        *("decoding", "randomness", "task", "sources", "preprocess", "transforms", "samples"),
        *("batches", "loaders"),
    ],
    "serving": [
        *("refusals", "logs", "limits", "tokens", "store", "wire", "images", "batcher", "catalogue"),
        *("metrics", "service", "observed", "routes", "app", "listen", "replicas", "start"),
    ],
    "runs": [
        *("folders", "reporting", "progress", "models", "cards", "prepare", "augmenting"),
        *("scoring", "run", "trying", "retraining", "recipe", "protocol", "start", "train", "estimator"),
    ],
}

MAX_LINES = 300

HERE = Path(__file__).parent
OF_NO_MODULE = {
    "adapters.earlier_versions",
    "gpu.gpu_exact",
    "gpu.gpu_training",
    "adapters.mutations",
    "prompting.conformance",
    "prompting.trainer",
    "prompting.lightning",
}
"""Hostile and earlier adapter files, devices, other libraries' trainers, the official implementation."""


def test_every_package_has_its_place() -> None:
    assert places(TREE) == set(ORDER), "a package without a place in ORDER, or a place without a package"
    for package, order in INSIDE.items():
        assert places(TREE, package) == set(order)
    assert not [name for name in importers(TREE, "insight.explanations") if name.startswith("insight.r")]
    assert {path.stem for path in ROOT.glob("*.py")} == {"errors", *FACES}, "modules live in packages"
    folders = {path.parent for path in ROOT.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_imports_come_from_above() -> None:
    below = from_below(TREE, ORDER)
    for package, order in INSIDE.items():
        below += from_below(TREE, order, inside=package)
    assert not below, "\n".join(below)


def test_no_imports_in_a_circle() -> None:
    assert not circle(TREE), " -> ".join(circle(TREE))


def test_benchmarks_and_commands_are_on_top() -> None:
    outside = [name for name in importers(TREE, "benchmarks") if not name.startswith("cli.")]
    assert not outside, f"{outside} import benchmarks"
    assert importers(TREE, "cli") == {"__main__"}


def test_one_name_one_meaning() -> None:
    twice = [f"{name}: {', '.join(modules)}" for name, modules in defined_twice(TREE).items()]
    assert not twice, "\n".join(twice)


@pytest.fixture
def planted(tmp_path: Path) -> Tree:
    """A small house in which every rule is broken once."""
    files = {
        "errors.py": "",
        "config/__init__.py": "from e2vpt.config.fields import option as option\n",
        "config/fields.py": "def option() -> None:\n    from e2vpt.training import fit\n",
        "training/__init__.py": "",
        "training/fit.py": "import e2vpt.errors\nfrom e2vpt.training.loop import Row\nLR = 1.0\n",
        "training/loop.py": "import e2vpt.config\nfrom e2vpt.training import fit\nclass Row: ...\n",
        "benchmarks/__init__.py": "",
        "benchmarks/spread.py": "from e2vpt.benchmarks.suite.run import LR\n",
        "benchmarks/suite/__init__.py": "",
        "benchmarks/suite/run.py": "from e2vpt.errors import E2VPTError\nLR: float = 2.0\n_LR = T = 1\n",
        "__init__.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return read_tree(tmp_path)


def test_a_planted_import_from_below_is_seen(planted: Tree) -> None:
    (found,) = from_below(planted, ["errors", "config", "training", "benchmarks"])
    assert found == "config.fields imports training.fit, which does not stand above it"
    (found,) = from_below(planted, ["spread", "suite"], inside="benchmarks")
    assert found == "benchmarks.spread imports benchmarks.suite.run, which does not stand above it"
    with pytest.raises(ValueError, match="benchmarks"):
        from_below(planted, ["errors", "config", "training"])


def test_planted_circles_are_seen(planted: Tree) -> None:
    ring = circle(planted)
    assert ring and ring[0] == ring[-1] and {"training.fit", "training.loop"} & set(ring)
    assert not circle({name: tree for name, tree in planted.items() if name != "training.loop"})
    own = {"config": "from e2vpt.config.fields import option", "config.fields": "from e2vpt.config import C"}
    assert set(circle({name: ast.parse(text) for name, text in own.items()})) == set(own)


def test_planted_doubles_and_importers_are_seen(planted: Tree) -> None:
    assert defined_twice(planted) == {"LR": ["benchmarks.suite.run", "training.fit"]}
    assert importers(planted, "training") == {"config.fields"}
    assert importers(planted, "config") == {"training.loop"}


def test_the_parser_of_imports_sees_all_forms() -> None:
    source = "import e2vpt.data.task, os\nfrom e2vpt import errors\nfrom e2vpt.data import task, load_task\n"
    inner = "def f():\n    from e2vpt.errors import E2VPTError\n    import e2vpt\n    from e2vpt import fit\n"
    found = list(imports(ast.parse(source + inner), TREE))
    assert sorted(found) == ["", "", "data", "data.task", "data.task", "errors", "errors"]


def test_modules_and_public_names_say_what_they_are_for() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    silent = [name for name, module in TREE.items() if not ast.get_docstring(module)]
    for name, module in TREE.items():
        public = [node for node in module.body if isinstance(node, kinds) and not node.name.startswith("_")]
        silent += [f"{name}.{node.name}" for node in public if not ast.get_docstring(node)]
    assert not silent, f"without a docstring: {silent}"


def test_files_stay_small() -> None:
    paths = [path for top in (ROOT, HERE, HERE.parent / "scripts") for path in top.rglob("*.py")]
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_tests_mirror_modules() -> None:
    tests = {path.relative_to(HERE) for path in HERE.glob("*/**/test_*.py")}
    named = {".".join([*path.parent.parts, path.stem.removeprefix("test_")]) for path in tests}
    assert of_no_module(named, TREE) == OF_NO_MODULE


def test_planted_tests_of_no_module_are_seen(planted: Tree) -> None:
    right = {"config.fields", "config.fields_refused", "benchmarks.suite.run", "benchmarks.suite.run_one_two"}
    assert not of_no_module(right, planted)
    unnamed = {"config.files", "config.fieldsmore", "config.fields_", "config.fields_x.y"}
    alone = {"training.fit_resume"}  # without a plain test file of the module
    assert of_no_module(right | unnamed | alone, planted) == unnamed | alone


def test_no_room_without_a_purpose() -> None:
    forbidden = {"utils", "util", "helpers", "common", "misc"}
    assert not [name for name in TREE if forbidden & set(name.split("."))]


def test_nothing_is_unpickled() -> None:
    broken = [f"{name}:{line}" for name, module in TREE.items() for line in _unpickling(module)]
    assert not broken, broken


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "eval(text)",
        "pickle.loads(b'')",
        "from pickle import loads",
    ],
)
def test_planted_unpickling_is_seen(source: str) -> None:
    assert _unpickling(ast.parse(source)) == [1]


def _unpickling(module: ast.Module) -> list[int]:
    """Lines that could run code from a file."""
    lines = []
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            unsafe = called == "torch.load" and words.get("weights_only") != "True"
            unsafe |= called in ("np.load", "numpy.load") and words.get("allow_pickle") != "False"
            if unsafe or called in ("eval", "exec"):
                lines.append(node.lineno)
        modules = ("pickle", "dill", "joblib")
        # The error's name only, to tell a refused weights file from a broken one.
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
            lines += [node.lineno] if node.attr != "UnpicklingError" else []
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            lines.append(node.lineno)
    return lines
