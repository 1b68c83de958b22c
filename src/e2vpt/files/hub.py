"""What is asked of the Hugging Face Hub for people's own repositories, and its refusals as errors of ours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from e2vpt.errors import ConfigError, E2VPTError, HubError, check_type, in_one_line
from e2vpt.files.downloads import cache_only_without_connection

ON_THE_HUB = "hf-hub:"
"""Before the name of a repository, in place of a path or of a timm name."""
_NAME = re.compile(r"[\w.\-]{1,96}/[\w.\-]{1,96}", re.ASCII)
LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN"


def check_repository(name: str) -> None:
    """Hold a name to OWNER/NAME, before anything is asked.

    Raises:
        ConfigError: it is none.
    """
    check_type("repository", name, str)
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of a repository on the Hugging Face Hub. Expected OWNER/NAME."
        )


def hub_file(repository: str, filename: str, revision: str | None = None) -> Path:
    """A file of a repository, in the Hub's own cache; without a connection the one that is there already.

    Raises:
        ConfigError: a name that no repository has.
        HubError: there is no such repository, revision or file, or the Hub cannot be reached.
    """
    check_repository(repository)
    with cache_only_without_connection() as problem, hub_errors(repository, revision, problem):
        return Path(hf_hub_download(repository, filename, revision=revision))


def repository_of(path: Path) -> str | None:
    """The repository OWNER/NAME whose file this is, where it lies in the Hub's own cache."""
    folder = path.absolute().parent
    in_cache = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    return "/".join(folder.parent.parent.name.split("--")[1:]) if in_cache else None


@contextmanager
def hub_errors(repository: str, revision: str | None = None, problem: str = "") -> Iterator[None]:
    """Inside, what the Hub refuses is a HubError; `problem` says why there is no connection."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the client's own, for its developers
            yield
    except E2VPTError:
        raise
    except Exception as error:  # the HTTP library, and so its exceptions, change between versions
        what = _refusal(error, revision, problem)
        raise HubError(f"{repository} on {constants.ENDPOINT}: {what}") from error


def _refusal(error: Exception, revision: str | None, problem: str) -> str:
    """What went wrong and what to do; narrower kinds of the Hub's errors first."""
    response = getattr(error, "response", None)
    status = None if response is None else response.status_code
    if isinstance(error, LocalEntryNotFoundError):
        return f"there is no connection, and it is not in the cache. {problem or in_one_line(error)}"
    if isinstance(error, GatedRepoError):
        return f"its owner must let you in first; ask on its page. {LOG_IN}."
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such repository, or it is private and you may not see it. {LOG_IN}."
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {revision!r}. Give a branch, a tag or a commit of it."
    if isinstance(error, EntryNotFoundError):
        return f"it has no such file ({in_one_line(error)}). Was it made by `e2vpt push`?"
    if status == 401:
        return f"your token is not valid. {LOG_IN}."
    if status == 403:
        return f"your token may not do that ({in_one_line(error)}). {LOG_IN}, with a token that may write."
    why = f" {in_one_line(error.__cause__)}" if isinstance(error.__cause__, Exception) else ""
    later = " Try again later." if status is not None and status >= 500 else ""
    return in_one_line(error) + why + later
