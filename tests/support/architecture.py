"""What the house rules ask of a source tree: who imports whom, what is defined where.

A tree is its modules by name below the package: "errors", "config" (its `__init__`), "config.fields".
"""

from __future__ import annotations

import ast
import graphlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

Tree = Mapping[str, ast.Module]
FACES = ("__init__", "__main__")
"""On top of everything: what `import e2vpt` and `python -m e2vpt` see."""


def read_tree(root: Path) -> dict[str, ast.Module]:
    """The modules below a folder, parsed."""
    paths = {".".join(path.relative_to(root).with_suffix("").parts): path for path in root.rglob("*.py")}
    return {
        name.removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
        for name, path in sorted(paths.items())
    }


def imports(module: ast.Module, names: Mapping[str, object]) -> Iterator[str]:
    """Every module of the package that a module imports, wherever the import stands; "" is the package."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports here are absolute"
            if node.module == "e2vpt":
                yield from (alias.name if alias.name in names else "" for alias in node.names)
            elif node.module and node.module.startswith("e2vpt."):
                outer = node.module.removeprefix("e2vpt.")
                inner = [f"{outer}.{alias.name}" for alias in node.names]
                yield from (name if name in names else outer for name in inner)
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] == "e2vpt"]
            yield from (name.removeprefix("e2vpt").removeprefix(".") for name in found)


def from_below(tree: Tree, order: Sequence[str], inside: str = "") -> list[str]:
    """Imports of what does not stand above, by an order of packages in the tree, or inside a package."""
    prefix = f"{inside}." if inside else ""
    found = []
    for name, module in tree.items():
        if name in FACES or not name.startswith(prefix) or name == inside:
            continue
        place = _place(name, prefix)
        allowed = {place, *order[: order.index(place)]}
        for target in imports(module, tree):
            counts = target.startswith(prefix) and target != inside
            if counts and _place(target, prefix) not in allowed:
                found.append(f"{name} imports {target or 'e2vpt itself'}, which does not stand above it")
    return found


def places(tree: Tree, inside: str = "") -> set[str]:
    """What stands at the top of the tree, or of a package in it."""
    prefix = f"{inside}." if inside else ""
    return {_place(name, prefix) for name in tree if name.startswith(prefix)} - {inside, *FACES}


def _place(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).split(".")[0]


def circle(tree: Tree) -> list[str]:
    """Modules that import each other in a ring, the first one twice; empty where there are none."""
    graph = {name: set(imports(module, tree)) - {""} for name, module in tree.items() if name not in FACES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def importers(tree: Tree, package: str) -> set[str]:
    """The modules outside a package that import something of it."""
    within = f"{package}."
    return {
        name
        for name, module in tree.items()
        if not f"{name}.".startswith(within)
        and any(f"{target}.".startswith(within) for target in imports(module, tree))
    }


def defined_twice(tree: Tree) -> dict[str, list[str]]:
    """Public classes, functions and constants that more than one module defines; type variables aside."""
    where: dict[str, list[str]] = defaultdict(list)
    for name, module in tree.items():
        for defined in {found for node in module.body for found in _defines(node)}:
            if not defined.startswith("_"):
                where[defined].append(name)
    return {defined: modules for defined, modules in sorted(where.items()) if len(modules) > 1}


def of_no_module(tests: Collection[str], modules: Collection[str]) -> set[str]:
    """Test files, by the names they would have as modules, that are neither a module's nor a subject's of it.

    A subject stands behind the module's name, "config.fields_refused" for "config.fields"; the module has to
    have its plain test file too.
    """
    plain = set(tests) & set(modules)
    return {name for name in tests if name not in plain and not any(_is_subject(name, of) for of in plain)}


def _is_subject(name: str, module: str) -> bool:
    subject = name.removeprefix(f"{module}_")
    return subject not in ("", name) and "." not in subject


def _defines(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.AnnAssign):
        yield ast.unparse(node.target)
    elif isinstance(node, ast.Assign) and not ast.unparse(node.value).startswith("TypeVar("):
        targets = [inner for target in node.targets for inner in ast.walk(target)]
        yield from (inner.id for inner in targets if isinstance(inner, ast.Name))
