"""Images out of a git directory, at the commit they were read at."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

IMAGES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Repository:
    name: str  # owner/name on GitHub
    commit: str


def git(directory: Path, *words: str) -> bytes:
    command = ["git", "-c", "safe.directory=*", "--git-dir", str(directory), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def opened(mirror: Path, repository: Repository) -> Path:
    """The git directory of a repository below `mirror`; it has to hold the commit."""
    folder = mirror / repository.name.replace("/", "+")
    for place in (folder, folder / ".git", folder / "repo", folder / "repo" / ".git"):
        if (place / "HEAD").is_file():
            git(place, "cat-file", "-e", f"{repository.commit}^{{commit}}")
            return place
    raise FileNotFoundError(f"{folder}: no git directory of {repository.name}; fetch it there first")


def listed(directory: Path, commit: str, folder: str) -> list[str]:
    """Paths of the images below a folder, sorted."""
    names = git(directory, "ls-tree", "-r", "-z", "--name-only", commit, folder).decode().split("\0")
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in IMAGES)


def read(directory: Path, commit: str, path: str) -> bytes:
    return git(directory, "cat-file", "blob", f"{commit}:{path}")
