"""Files of the Hugging Face hub: from its cache without a connection, else downloaded, else one error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from e2vpt.errors import WeightsError, in_one_line

_TIMEOUT_S = 3.0


def fetch(repository: str, filenames: Sequence[str]) -> Path:
    """The first of these files that the repository ("owner/name" or "owner/name@revision") has.

    A cached file is taken as it is, without asking the hub for a newer one.

    Raises:
        WeightsError: it is not in the cache, and the hub cannot be reached or does not give it.
    """
    name, _, revision = repository.partition("@")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the hub's advice on tokens and caches is not the user's concern here
            return _cached(name, filenames, revision or None) or _download(name, filenames, revision or None)
    except Exception as error:  # the hub's HTTP library, and so its exceptions, change between versions
        raise WeightsError(
            f"{' or '.join(filenames)} of hf-hub:{repository} is not in the cache {constants.HF_HUB_CACHE}, "
            f"and could not be downloaded: {in_one_line(error)}\nRun this once with a connection to "
            f"{constants.ENDPOINT}, or get the weights elsewhere and give them: weights=FILE, on the command "
            "line --weights FILE."
        ) from error


@contextmanager
def cache_only_without_connection() -> Iterator[str]:
    """Inside, the hub's client looks in its cache only, where there is no connection; then gives the reason.

    It would retry for half a minute otherwise, a line each time.
    """
    before, problem = constants.HF_HUB_OFFLINE, ""
    try:
        check_connection()
    except ConnectionError as error:
        problem = str(error)
    constants.HF_HUB_OFFLINE = before or bool(problem)
    try:
        yield problem
    finally:
        constants.HF_HUB_OFFLINE = before


def _cached(name: str, filenames: Sequence[str], revision: str | None) -> Path | None:
    for filename in filenames:
        path = try_to_load_from_cache(name, filename, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def _download(name: str, filenames: Sequence[str], revision: str | None) -> Path:
    check_connection()
    for filename in filenames:
        try:
            return Path(hf_hub_download(name, filename, revision=revision))
        except LocalEntryNotFoundError:  # the connection broke; not to be taken for a file that is not there
            raise
        except EntryNotFoundError:
            continue
    raise FileNotFoundError("the repository has no such file.")


def check_connection() -> None:
    """One short request: without a connection the hub's own client retries for almost a minute.

    Raises:
        ConnectionError: the hub cannot be reached.
    """
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set.")
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    except Exception as error:
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached ({error}).") from error
