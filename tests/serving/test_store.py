"""Uploads on disk: named by content, never written over, found again after a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from e2vpt.errors import RunError
from e2vpt.serving.store import Store


def test_a_store_is_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "store")
    first = store.add(b"one")
    store.assign("x", first)
    store.assign("y", store.add(b"one"))
    store.assign("z/../z", store.add(b"two"))
    store.close()
    again = Store(tmp_path / "a" / "store")
    assert {name: path.read_bytes() for name, path in again.paths.items()} == {
        "x": b"one",
        "y": b"one",
        "z/../z": b"two",
    }
    assert again.paths["x"] == first
    assert len(list((tmp_path / "a" / "store").glob("[!.]*"))) == 3


def test_a_file_goes_with_its_last_task(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.add(b"one")
    store.assign("x", path)
    store.assign("y", path)
    store.remove("x")
    store.remove("nothing")
    store.drop_unused(path)
    assert path.read_bytes() == b"one"
    store.assign("y", store.add(b"two"))
    assert not path.exists()
    unused = store.add(b"three")
    store.drop_unused(unused)
    store.drop_unused(unused)
    assert sorted(file.name for file in tmp_path.glob("[!.]*")) == [store.paths["y"].name, "tasks.json"]


def test_two_servers_cannot_share_a_store(tmp_path: Path) -> None:
    first = Store(tmp_path)
    with pytest.raises(RunError, match="Another server uses"):
        Store(tmp_path)
    path = first.add(b"one")
    first.assign("x", path)
    first.close()
    assert Store(tmp_path).paths == {"x": path}


def test_a_store_of_a_process_that_died_is_free(tmp_path: Path) -> None:
    script = "import sys, time, pathlib; from e2vpt.serving.store import Store\n"
    script += "store = Store(pathlib.Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        with pytest.raises(RunError, match="Another server uses"):
            Store(tmp_path)
        other.kill()
        other.wait()
        assert Store(tmp_path).paths == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"x": "../../etc/passwd"}', "[" * 10**5])
def test_an_index_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tasks.json").write_text(content)
    with pytest.raises(RunError, match=r"tasks\.json (cannot be read|is no index)"):
        Store(tmp_path)
    assert (tmp_path / "tasks.json").read_text() == content


def test_a_place_that_takes_no_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="no folder"):
        Store(tmp_path / "file")


def test_the_index_says_which_is_which(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.add(b"one")
    store.assign("x", path)
    assert json.loads((tmp_path / "tasks.json").read_text()) == {"x": path.stem}
