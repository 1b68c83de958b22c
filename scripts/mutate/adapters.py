"""Adapters: one or two mutations under a checksum that fits, loaded, used, saved and loaded again."""

from __future__ import annotations

import contextlib
import copy
import io
import sys
from pathlib import Path
from random import Random
from typing import Any

import torch

import e2vpt
from e2vpt.cli.app import main as command_line
from e2vpt.errors import visible
from e2vpt.prompting.parts import find_prompts
from scripts.mutate.adapter_bases import Base, make_bases, sealed
from scripts.mutate.adapter_checks import PICTURES, wrong_adapter
from scripts.mutate.adapter_mutations import MUTATIONS
from scripts.mutate.header_places import dumped
from scripts.mutate.watch import Case, Make, wrong_message


def prepare(folder: Path) -> Make:
    """Cases from the bases, whole files among them."""
    folder.mkdir()
    bases = make_bases(folder)
    photos = _photos(folder / "photos")

    def make(random: Random, place: Path) -> Case:
        base = random.choice(bases)
        header, tensors = copy.deepcopy(base.header), {n: t.clone() for n, t in base.tensors.items()}
        names = []
        for _ in range(random.choice([1, 1, 2])):
            with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):  # The first left no room.
                names.append(random.choice(MUTATIONS)(header, tensors, random, bases))
        text = dumped(header)
        more = {"format": "pt"} if random.random() < 0.05 else None
        path = place / "a.safetensors"
        path.write_bytes(sealed(text, tensors, more))
        return _case(
            base, path, f"{base.name}: {'; '.join(names)}", photos if random.random() < 0.2 else None
        )

    return make


def _photos(folder: Path) -> Path:
    for index, name in enumerate(("cat", "dog", "emu")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        PICTURES[index].save(folder / name / "a.png")
    return folder


def _case(base: Base, path: Path, name: str, photos: Path | None) -> Case:
    backbone = copy.deepcopy(base.backbone)
    before = {} if backbone is None else {n: t.clone() for n, t in backbone.state_dict().items()}
    modes = [] if backbone is None else [p.requires_grad for p in backbone.parameters()]
    state = torch.random.get_rng_state()
    loaded: list[e2vpt.TaskModel] = []

    def run() -> dict[str, Any]:
        made: dict[str, Any] = {"printed": _printed(path)}
        loaded.append(e2vpt.load(path, backbone, device="cpu"))
        assert torch.random.get_rng_state().equal(state), "loading drew from the global random state"
        made["predicted"] = loaded[0].predict(list(PICTURES), topk=10**9)
        if photos is not None and set(loaded[0].info.classes) >= {"cat", "dog", "emu"}:
            made["evaluated"] = loaded[0].evaluate(photos, split="all", on_note=lambda note: None)
        return made

    def after() -> str:
        if loaded:
            return ""
        if not torch.random.get_rng_state().equal(state):
            return "refused, and the global random state has changed"
        if backbone is None:
            return ""
        same = before.keys() == backbone.state_dict().keys() and all(
            tensor.equal(before[name]) for name, tensor in backbone.state_dict().items()
        )
        kept = modes == [p.requires_grad for p in backbone.parameters()]
        return "" if same and kept and not find_prompts(backbone) else "refused, and the backbone has changed"

    def check(made: dict[str, Any]) -> str:
        return wrong_adapter(base, path, loaded[0], made)

    return Case(name=name, run=run, check=check, after=after, mentions=(path.name,), lines=1)


def _printed(path: Path) -> tuple[str, str]:
    """What `e2vpt info` prints, as text and as JSON.

    Raises:
        E2VPTError: it exits with an error, after checking that the command says the same in one line.
    """
    try:
        e2vpt.load_adapter.__globals__["read_adapter"](path)
        failed = None
    except Exception as error:
        failed = error
    code, text, problem = _called("info", str(path))
    if failed is not None:
        wrong = "" if code == 1 and not text else f"exit {code}, stdout {text!r}"
        flat = " ".join(problem.split())
        wrong = wrong or wrong_message(flat, (path.name,), 1, visible)
        if wrong or not isinstance(failed, e2vpt.E2VPTError):
            raise AssertionError(f"e2vpt info: {wrong}: {failed!r}") from failed
        raise failed
    code_json, as_json, _ = _called("info", str(path), "--json")
    assert (code, code_json) == (0, 0), (code, code_json, problem)
    return text, as_json


def _called(*words: str) -> tuple[int, str, str]:
    argv, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["e2vpt", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command_line()
        code = 0
    except SystemExit as done:
        code = int(done.code or 0)
    finally:
        sys.argv = argv
    return code, out.getvalue(), err.getvalue()
