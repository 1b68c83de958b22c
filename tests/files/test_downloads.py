"""Hub files without a hub: the cache serves them, and where it cannot, one error comes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NoReturn

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from e2vpt.errors import WeightsError
from e2vpt.files import downloads as hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network: any request fails."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "get_session", Unreachable)
    monkeypatch.setattr(
        hub, "hf_hub_download", lambda *_, **__: pytest.fail("a download without a connection")
    )
    Unreachable.asked.clear()
    return tmp_path


class Unreachable:
    """A session that reaches nothing, and how long each request was willing to wait for it."""

    asked: ClassVar[list[float]] = []

    def head(self, url: str, *, timeout: float) -> NoReturn:
        self.asked.append(timeout)
        raise OSError(f"no route to {url}")


def put(cache: Path, repository: str, filename: str, content: bytes, revision: str = "main") -> Path:
    folder = cache / f"models--{repository.replace('/', '--')}"
    path = folder / "snapshots" / "0123abc" / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / revision).write_text("0123abc")
    return path


def test_cached_files_need_no_connection(cache: Path) -> None:
    path = put(cache, "timm/tiny", "b.bin", b"weights")
    assert hub.fetch("timm/tiny", ["a.safetensors", "b.bin"]) == path
    other = put(cache, "timm/tiny", "c.bin", b"weights", revision="v2")
    assert hub.fetch("timm/tiny@v2", ["c.bin"]) == other


def test_no_connection_is_one_error_at_once(cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        hub.fetch("timm/tiny", ["a.safetensors", "b.bin"])
    assert len(Unreachable.asked) == 1 and Unreachable.asked[0] <= 5, "one short request for both files"
    message = str(caught.value)
    assert f"a.safetensors or b.bin of hf-hub:timm/tiny is not in the cache {cache}" in message
    assert (
        "cannot be reached (no route to" in message
        and "weights=FILE" in message
        and "--weights FILE" in message
    )


def test_offline_switch(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="could not be downloaded: HF_HUB_OFFLINE is set"):
        hub.fetch("timm/tiny", ["a.bin"])


def test_a_name_that_is_no_repository(cache: Path) -> None:
    with pytest.raises(WeightsError, match="Repo id must be"):
        hub.fetch("a/b/c", ["a.bin"])


@pytest.fixture
def online(cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that answers each file name with a path or an exception."""
    answers: dict[str, Any] = {}

    def download(name: str, filename: str, revision: str | None) -> str:
        answer = answers.get(filename, EntryNotFoundError("no such file"))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(hub, "check_connection", lambda: None)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    return answers


def test_the_first_file_the_repository_has(online: dict[str, Any]) -> None:
    online["b.bin"] = "/there/b.bin"
    assert hub.fetch("timm/tiny", ["a.safetensors", "b.bin"]) == Path("/there/b.bin")
    with pytest.raises(WeightsError, match="the repository has no such file"):
        hub.fetch("timm/tiny", ["c.bin"])


def test_a_connection_that_breaks_is_no_missing_file(online: dict[str, Any]) -> None:
    online |= {"a.safetensors": LocalEntryNotFoundError("connection broke"), "b.bin": "/there/b.bin"}
    with pytest.raises(WeightsError, match="connection broke"):
        hub.fetch("timm/tiny", ["a.safetensors", "b.bin"])
