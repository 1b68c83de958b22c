"""Adapters to the Hugging Face Hub, and from there: `e2vpt push` and `e2vpt pull`.

What is uploaded: adapter.safetensors, README.md (the model card), and of a run config.json without the paths
of images and weights. They name the classes, the data and the settings; no image, no file name, no path.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token
from huggingface_hub.errors import EntryNotFoundError

import e2vpt
from e2vpt.adapters.reading import read_stored
from e2vpt.errors import AdapterFormatError, ConfigError, HubError, RunError
from e2vpt.files.atomic import copy_atomic, make_folder
from e2vpt.files.downloads import check_connection
from e2vpt.files.hub import LOG_IN, check_repository, hub_errors, hub_file
from e2vpt.files.paths import check_folder_place, listed, look_at
from e2vpt.runs.cards.card import CARD, card_of, is_generated, read_card
from e2vpt.runs.folders.finding import adapter_path
from e2vpt.runs.folders.folder import ADAPTER, CONFIG, holds_run, read_config
from e2vpt.runs.folders.run_config import saved_run_config

_KEPT = ("task", "classes", "fingerprint", "e2vpt", "begun")
"""Of config.json, beside the settings."""
_OURS = {ADAPTER, CARD, CONFIG, ".gitattributes"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """An adapter on the Hub.

    Attributes:
        url: the page of its repository.
        private: whether only its owner sees it.
        files: bytes of what was uploaded, by name.
        kept_card: whether a card that was edited on the Hub was left as it is.
    """

    url: str
    private: bool
    files: dict[str, int]
    kept_card: bool


def push_run(adapter_or_run: str | Path, repository: str, *, public: bool = False) -> Pushed:
    """Upload the adapter of a run, or an adapter file, to the Hub's repository "owner/name" in one commit.

    A new repository is private unless `public`; what one that exists is, stays. A card edited on the Hub is
    kept, unless that of the run was edited too.

    Raises:
        RunError, AdapterFormatError: there is no adapter to upload.
        ConfigError: no such name, or a card whose metadata cannot be read.
        HubError: no token, no connection, no permission, or a repository of something else or of another
            visibility.
    """
    check_repository(repository)
    files = public_files(adapter_path(adapter_or_run))
    if get_token() is None:
        raise HubError(f"There is no token for the Hub. {LOG_IN}, with a token that may write.")
    api = HfApi(library_name="e2vpt", library_version=e2vpt.__version__)
    with hub_errors(repository):
        check_connection()
        url = api.create_repo(repository, private=not public, exist_ok=True)
        found = api.model_info(repository)
        _check_place(
            repository, bool(found.private), {file.rfilename for file in found.siblings or ()}, public
        )
        kept_card = is_generated(files[CARD].decode()) and _is_edited(api, repository)
        if kept_card:
            del files[CARD]
        api.create_commit(
            repository,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=f"Adapter of e2vpt {e2vpt.__version__}",
        )
    sizes = {name: len(content) for name, content in files.items()}
    return Pushed(url=str(url), private=bool(found.private), files=sizes, kept_card=kept_card)


def public_files(adapter: Path) -> dict[str, bytes]:
    """What is uploaded of an adapter, and of its run, by name.

    Raises:
        AdapterFormatError, RunError, ConfigError: a file cannot be used.
    """
    read_stored(adapter)
    run, is_run = adapter.parent, adapter.name == ADAPTER
    written = is_run and look_at(run / CARD) == "file"
    card = (run / CARD).read_bytes() if written else card_of(adapter).encode()
    try:
        ModelCard(card.decode())
    except Exception as error:  # YAML's, and what metadata may not be
        raise ConfigError(f"The metadata of {run / CARD} cannot be read: {error}") from error
    files = {ADAPTER: adapter.read_bytes(), CARD: card}
    if is_run and holds_run(run):
        files[CONFIG] = (json.dumps(_public_config(run), indent=2) + "\n").encode()
    return files


def pull_adapter(repository: str, out: str | Path, *, revision: str | None = None) -> Path:
    """Download an adapter of the Hub, and its card, into a folder; returns the adapter's path there.

    It is checked as in loading; `revision` is a branch, a tag or a commit.

    Raises:
        ConfigError: no such name.
        HubError: no such repository, revision or file, or no connection.
        AdapterFormatError: the file is no adapter, or is damaged.
        RunError: `out` holds something else, or cannot be written.
    """
    out = Path(out)
    check_folder_place(out)
    source = hub_file(repository, ADAPTER, revision)
    try:
        read_stored(source)
    except AdapterFormatError as error:
        raise AdapterFormatError(f"{repository} holds no adapter that can be used. {error}") from error
    _check_room(out, source)
    card = _card_there(repository, revision)
    make_folder(out)
    for name, file in ((ADAPTER, source), (CARD, card)):
        # A pull that was killed between the two is made up for.
        if file is not None and look_at(out / name) == "nothing":
            copy_atomic(file, out / name)
    return out / ADAPTER


def _card_there(repository: str, revision: str | None) -> Path | None:
    """The card on the Hub; None where there is none, or none in the cache and no connection."""
    try:
        return hub_file(repository, CARD, revision)
    except HubError as error:
        if isinstance(error.__cause__, EntryNotFoundError):
            return None
        raise


def _check_room(out: Path, source: Path) -> None:
    """Refuse a folder that is neither empty nor holds this very adapter."""
    found = {path.name for path in listed(out)} if look_at(out) == "folder" else set()
    same = ADAPTER in found and (out / ADAPTER).read_bytes() == source.read_bytes()
    if found and not same:
        some = ", ".join(sorted(found)[:3])
        raise RunError(f"{out} holds something else already ({some}). Choose another --out.")


def _public_config(run: Path) -> dict[str, object]:
    """The settings of a run without where its images and weights lie on this machine."""
    saved = read_config(run / CONFIG)
    config = dataclasses.replace(saved_run_config(run), source=None, weights=None)
    return config.to_dict() | {name: saved.get(name) for name in _KEPT}


def _check_place(repository: str, private: bool, files: set[str], public: bool) -> None:
    if private is public:
        seen, fix = ("private", "Leave --public out") if private else ("public", "Give --public")
        raise HubError(
            f"{repository} exists and is {seen}. {fix}, or change that in its settings on the Hub."
        )
    others = sorted(files - _OURS)
    if others and ADAPTER not in files:
        raise HubError(f"{repository} holds something else ({', '.join(others[:3])}). Choose another name.")


def _is_edited(api: HfApi, repository: str) -> bool:
    """Whether the Hub has a card of somebody's own."""
    try:
        path = api.hf_hub_download(repository, CARD)
    except EntryNotFoundError:
        return False
    return not is_generated(read_card(Path(path)))
