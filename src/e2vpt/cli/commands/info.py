"""The command that shows an adapter file: info."""

from __future__ import annotations

import json

from e2vpt.cli.options import AdapterArgument, AsJson
from e2vpt.cli.output import describe, plain


def info_command(
    adapter: AdapterArgument,
    as_json: AsJson = False,
) -> None:
    """Show what an adapter file holds; no backbone is needed."""
    from e2vpt.adapters.files import read_adapter
    from e2vpt.runs.folders.finding import adapter_path

    found = read_adapter(adapter_path(adapter))
    print(json.dumps(plain(found)) if as_json else describe(found))
