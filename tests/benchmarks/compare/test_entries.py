"""The rows of a comparison: whose pruning they have, and what they need installed."""

from __future__ import annotations

import sys

import pytest

from e2vpt.benchmarks.compare.entries import ENTRIES, check_extras, pruned_as_asked
from e2vpt.config.recipes import RECIPES
from e2vpt.errors import MissingExtra


def test_the_papers_rows_prune_as_its_recipe_does() -> None:
    ours = {"e2vpt"}
    for name, entry in ENTRIES.items():
        if not entry.prunes or name in ours:
            assert not entry.pruning, name
            continue
        assert {"masks": "shared", "rewind_head": True}.items() <= entry.pruning.items(), name
        assert entry.pruning.items() >= {n: RECIPES["paper"][n] for n in ("masks", "rewind_head")}.items()
        assert (entry.pruning["prune_at"], entry.pruning["rewind"]) == (1.0, "initial")


def test_what_somebody_gave_holds_for_every_row() -> None:
    entry = pruned_as_asked(ENTRIES["e2vpt-paper"], {"masks", "prune_at", "epochs"})
    assert entry.pruning == {"rewind_head": True, "rewind": "initial"}
    assert pruned_as_asked(ENTRIES["e2vpt-paper"], {"epochs"}) == ENTRIES["e2vpt-paper"]


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    check_extras(ENTRIES.values())
    monkeypatch.setitem(sys.modules, "peft", None)
    check_extras([ENTRIES["linear"]])
    with pytest.raises(MissingExtra, match=r"Method lora is PEFT's: pip install 'e2vpt\[bench\]'"):
        check_extras([ENTRIES["linear"], ENTRIES["lora"]])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"a picture by Matplotlib: pip install 'e2vpt\[bench\]'"):
        check_extras([ENTRIES["linear"]])
