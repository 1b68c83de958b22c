"""The command that shows an adapter file: info."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from e2vpt.adapters.files import read_adapter
from e2vpt.cli.options import AsJson
from e2vpt.cli.output import describe, plain
from e2vpt.runs.folder import adapter_path


def info_command(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER_OR_RUN", help="Adapter file, or run folder.")],
    as_json: AsJson = False,
) -> None:
    """Show what an adapter file holds; no backbone is needed."""
    found = read_adapter(adapter_path(adapter))
    print(json.dumps(plain(found)) if as_json else describe(found))
