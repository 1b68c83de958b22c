"""The command `info`: of an adapter, of a run, and of folders that are neither."""

from __future__ import annotations

import json
from pathlib import Path


def test_info_json_and_text(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = run("info", "run", "--json")
    found = json.loads(out)
    assert (found["method"], found["backbone"]) == ("e2vpt", "demo")
    assert (found["num_visual"], found["num_kv"], found["visual_kept"]) == ([10] * 6, [0] * 6, 1.0)
    assert found["bytes"] == (home / "run/adapter.safetensors").stat().st_size
    assert found["classes"] == ["bars", "disc", "ring"]
    _, out, _ = run("info", "run/adapter.safetensors")
    assert f"{found['num_tuned']} tuned, {found['num_head']} in the head" in out


def test_info_of_a_folder_of_runs_names_them(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("info", ".")
    assert code == 1 and "is not a run but holds runs: " in err and "run" in err.split("runs: ")[1]
    code, _, err = run("info", "shapes")
    assert code == 1 and "shapes is no run folder of `e2vpt train`, and holds none" in err
