"""600 mutated adapter files: each raises the documented error or loads the very same tensors.

None crashes, hangs, or allocates more than ten times the file. They are loaded in one process of their own,
with a bound on its memory, so that a crash would be a failure here and not the end of the tests. One file
again: (cd tests; python -m support.adapter_fuzz /tmp 1 INDEX)
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from support.adapter_files import PREPROCESSING
from support.adapter_mutations import DAMAGE, LIES
from support.backbones_for_tests import prompted, tiny_vit

import e2vpt

FILES = 600
TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_mutated_adapter_files(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "support.adapter_fuzz", str(tmp_path), str(FILES), "0"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    print(done.stdout)
    assert report["failures"] == []
    assert sum(sum(outcomes.values()) for outcomes in report["kinds"].values()) == FILES
    assert min(report["base_bytes"]) > 200_000
    # Ten times the file holds for every file above (`failures`); this is for those of a real adapter's size.
    assert report["python_ratio"][0] < 10 and report["process_ratio"][0] < 10
    # The mutations reach every line of defence, and let some files through.
    assert report["kinds"].keys() == {mutate.__name__ for mutate in (*DAMAGE, *LIES)}
    for text in (
        "checksum",
        "cannot be used",
        "JSON",
        "values",
        "deserializing",
        "format",
        "BackboneMismatch",
    ):
        assert any(text in reason for reason in report["reasons"]), text
    outcomes = {outcome for kind in report["kinds"].values() for outcome in kind}
    assert {"the same tensors", "other tensors, sealed"} < outcomes


def test_mutations_are_seeded(tmp_path: Path) -> None:
    model = prompted(tiny_vit(torch.float32))
    e2vpt.save_adapter(model, tmp_path / "base", preprocessing=PREPROCESSING)
    content = (tmp_path / "base").read_bytes()
    for mutate in dict.fromkeys((*DAMAGE, *LIES)):
        for seed in range(5):
            assert mutate(content, Random(seed)) == mutate(content, Random(seed)), mutate.__name__
