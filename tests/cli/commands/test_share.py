"""push and pull as commands, in processes of their own that find the Hub by HF_ENDPOINT."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hub_for_tests import running_hub
from support.tasks_for_tests import write_task

import e2vpt


def test_push_pull_predict(tmp_path: Path) -> None:
    write_task(tmp_path / "shapes")
    e2vpt.train(tmp_path / "shapes", "demo", tmp_path / "run", epochs=1, prune=False, verbose=False)
    with running_hub() as hub:

        def call(*words: str) -> tuple[int, str, str]:
            own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "write"}
            done = subprocess.run(
                [sys.executable, "-m", "e2vpt", *words],
                env={**os.environ, **own, "HF_HUB_DISABLE_XET": "1"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
            )
            return done.returncode, done.stdout, " ".join(done.stderr.split())

        code, out, err = call("push", "run", "me/shapes")
        assert code == 0, err
        size = (tmp_path / "run/adapter.safetensors").stat().st_size
        assert f"adapter.safetensors {size:,} bytes" in out
        assert out.splitlines()[-1].split() == ["private", f"{hub.url}/me/shapes"]
        code, out, err = call("pull", "me/shapes")
        assert (code, out.strip()) == (0, str(Path("runs/shapes/adapter.safetensors"))), err
        assert "Use it: e2vpt predict runs/shapes" in err
        expected = call("predict", "run", "shapes/test", "--json")
        assert expected[0] == 0 and expected[1]
        assert call("predict", "runs/shapes", "shapes/test", "--json")[:2] == expected[:2]
        code, _, err = call("pull", "me/nothing")
        assert code == 1 and "error: me/nothing on" in err and "Traceback" not in err


def test_the_help_says_what_is_public(e2vpt_command, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = e2vpt_command("push", "--help")
    assert code == 0 and "private unless --public" in out and "no file name" in out
