"""For MkDocs: `<!-- help: train, bench speed -->` in a page becomes the help of those commands, in full.

The text comes from the command line itself, so that the page cannot fall behind it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- help: ([\w, ]+) -->")
SOURCE = Path(__file__).resolve().parents[1] / "src"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What MkDocs calls for each page."""
    return MARK.sub(lambda mark: sections(mark.group(1).split(", ")), markdown)


def sections(commands: list[str]) -> str:
    """A heading and the help text for each command."""
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(help_of, commands))
    return "\n\n".join(
        f"## {command}\n\n```text\n{text}\n```" for command, text in zip(commands, texts, strict=True)
    )


def help_of(command: str) -> str:
    """The full help of a command; of one without rarer flags, its help.

    Raises:
        RuntimeError: there is no such command.
    """
    for flag in ("--help-all", "--help"):
        done = subprocess.run(
            [sys.executable, "-m", "e2vpt", *command.split(), flag],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]),
                "PYTHONIOENCODING": "utf-8",
                "TYPER_USE_RICH": "0",
                "NO_COLOR": "1",
                "COLUMNS": "86",
            },
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        if done.returncode == 0:
            lines = (line.rstrip() for line in done.stdout.replace("python -m e2vpt", "e2vpt").splitlines())
            return "\n".join(lines).strip("\n")
    raise RuntimeError(f"e2vpt {command} --help: {done.stderr}")
