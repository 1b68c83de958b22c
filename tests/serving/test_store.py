"""Uploads on disk: named by content, never written over, found again after a restart."""

from __future__ import annotations

import json
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
    again = Store(tmp_path / "a" / "store")
    assert {name: path.read_bytes() for name, path in again.paths.items()} == {
        "x": b"one",
        "y": b"one",
        "z/../z": b"two",
    }
    assert again.paths["x"] == first
    assert len(list((tmp_path / "a" / "store").iterdir())) == 3


def test_the_same_upload_again_mends_a_damaged_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.add(b"one")
    path.write_bytes(b"o")
    assert store.add(b"one") == path and path.read_bytes() == b"one"


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
    assert sorted(file.name for file in tmp_path.iterdir()) == [store.paths["y"].name, "tasks.json"]


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
