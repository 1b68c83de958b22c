"""The commands for the Hugging Face Hub: push, pull."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2vpt.cli.options import AdapterArgument
from e2vpt.errors import visible
from e2vpt.runs.progress import say

Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face Hub.")]


def push_command(
    adapter: AdapterArgument,
    repository: Repository,
    public: Annotated[bool, typer.Option("--public", help="For everyone to see; else only you do.")] = False,
) -> None:
    """Upload an adapter, its model card and its settings to the Hugging Face Hub, private unless --public.

    Classes, the name of the data and the settings are in them; no image, no file name and no path is.
    """
    from e2vpt.runs.cards.sharing import push_run

    pushed = push_run(adapter, repository, public=public)
    for name, size in pushed.files.items():
        print(f"{name:18} {size:,} bytes")
    print(f"{'private' if pushed.private else 'public':18} {pushed.url}")
    if pushed.kept_card:
        say("README.md was edited on the Hub, and is left as it is there.")


def pull_command(
    repository: Repository,
    revision: Annotated[str | None, typer.Option(help="A branch, a tag or a commit.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/NAME when not given.")] = None,
) -> None:
    """Download an adapter from the Hugging Face Hub, for predict, eval, serve and the others."""
    from e2vpt.runs.cards.sharing import pull_adapter

    folder = Path("runs") / repository.rpartition("/")[2] if out is None else out
    print(visible(str(pull_adapter(repository, folder, revision=revision))))
    say(f"Use it: e2vpt predict {folder} photos/")
