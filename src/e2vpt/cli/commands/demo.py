"""The command that shows the method at work on drawings: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the images and both runs.")] = Path("runs/demo"),
) -> None:
    """Compare a linear head with E²VPT on images drawn here: offline, in half a minute."""
    from e2vpt.cli.jobs.demo import run_demo

    run_demo(out)
