"""What a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2vpt import RunConfig
from e2vpt.errors import RunError
from e2vpt.runs.folders.folder import kind_of
from e2vpt.runs.folders.opening import open_folder
from e2vpt.runs.folders.run_config import saved_run_config


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, "run"),
        ({"search": {}}, "search"),
        ({"tune_on": []}, "comparison"),
        ({"protocol": ""}, "benchmark"),
    ],
)
def test_what_a_folder_holds(tmp_path: Path, more: dict[str, Any], kind: str) -> None:
    saved = RunConfig(backbone="demo").to_dict() | more
    assert kind_of(saved) == kind
    open_folder(tmp_path, saved, resume=False)
    if kind == "run":
        assert saved_run_config(tmp_path).backbone == "demo"
    else:
        with pytest.raises(RunError, match=f"holds a {kind}, no run, but runs lie below it"):
            saved_run_config(tmp_path)
