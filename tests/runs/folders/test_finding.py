"""What a task is called whose adapter is named in one way or another."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.file_download import repo_folder_name

from e2vpt.runs.folders.finding import task_name

IN_CACHE = Path(repo_folder_name(repo_id="jo/pets-2", repo_type="model"), "snapshots", "0" * 40)


@pytest.mark.parametrize(
    ("adapter", "name"),
    [
        (Path("runs/pets/adapter.safetensors"), "pets"),
        (Path("runs/pets.safetensors"), "pets"),
        (Path("runs/pets/last.safetensors"), "last"),
        ("hf-hub:jo/pets-2", "pets-2"),
        (Path("hf-hub:jo/pets-2@v1"), "pets-2"),
        (IN_CACHE / "adapter.safetensors", "pets-2"),
    ],
)
def test_a_task_is_called_as_its_run_file_or_repository(adapter: str | Path, name: str) -> None:
    assert task_name(adapter) == name


def test_a_link_into_the_caches_blobs_has_the_repositorys_name(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/1").touch()
    (tmp_path / IN_CACHE).mkdir(parents=True)
    link = tmp_path / IN_CACHE / "adapter.safetensors"
    link.symlink_to(tmp_path / "blobs/1")
    assert task_name(link) == "pets-2"
