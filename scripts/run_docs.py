"""Run the shell and Python blocks of Markdown pages, in order, in one fresh temporary folder.

python scripts/run_docs.py PAGE... [--copy FOLDER...]

Every ```sh and ```python block must exit with 0; the first one that does not ends the run with exit code 1.
Each block is a process of its own, with this Python's `e2vpt` first on the PATH. A block is skipped, and
listed, where an HTML comment stands directly before it:

    <!-- needs: network -->

`pip install` lines are never run: the docs are checked against what is installed here. --copy puts folders
(paths below the current one, such as runs/demo) into the temporary folder first.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

LANGUAGES = ("sh", "python")
NEEDS = re.compile(r"<!--\s*needs:\s*(.+?)\s*-->")
INSTALL = re.compile(r"\s*(python3? -m )?pip install\b.*")
TIMEOUT = 600
"""Seconds for one block."""


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, first line, language, text, and what it needs that is not here."""

    page: Path
    line: int
    language: str
    text: str
    needs: str

    @property
    def where(self) -> str:
        """The place of the block, as compilers print it."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in a language that is run, in order."""
    before = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        language = token.info.split()[0] if token.info.strip() else ""
        if token.type == "fence" and language in LANGUAGES:
            mark = (
                NEEDS.search(before.content) if before is not None and before.type == "html_block" else None
            )
            line = token.map[0] + 1 if token.map else 0
            yield Block(page, line, language, token.content, mark.group(1) if mark else "")
        before = token


def runnable(block: Block) -> tuple[str, list[str]]:
    """The text to run, and the `pip install` lines left out of it."""
    if block.language != "sh":
        return block.text, []
    lines = block.text.splitlines()
    left_out = [line.strip() for line in lines if INSTALL.fullmatch(line)]
    return "\n".join(line for line in lines if not INSTALL.fullmatch(line)), left_out


def run(block: Block, text: str, folder: Path) -> bool:
    """Whether the text of a block exits with 0 in a folder; its output goes to the terminal."""
    words = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run([*words, text], cwd=folder, env={**os.environ, "PATH": path}, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        print(f"{block.where}: not done after {TIMEOUT} s", flush=True)
        return False
    return done.returncode == 0


def run_pages(pages: Sequence[Path], copied: Sequence[Path]) -> int:
    """Run all pages; the exit code."""
    ran = 0
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        for source in copied:
            shutil.copytree(source, Path(name) / source)
        for block in (block for page in pages for block in blocks(page)):
            if block.needs:
                print(f"{block.where}: skipped, needs {block.needs}", flush=True)
                continue
            text, left_out = runnable(block)
            for line in left_out:
                print(f"{block.where}: not run: {line}", flush=True)
            if not text.strip():
                continue
            print(f"{block.where}: {block.language}", flush=True)
            start = time.monotonic()
            if not run(block, text, Path(name)):
                print(f"{block.where}: FAILED\n{text}", flush=True)
                return 1
            print(f"{block.where}: {time.monotonic() - start:.0f} s", flush=True)
            ran += 1
    print(f"{ran} blocks ran.", flush=True)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parser.add_argument("--copy", nargs="+", type=Path, default=[], metavar="FOLDER")
    asked = parser.parse_args(words)
    if absolute := [path for path in asked.copy if path.is_absolute() or ".." in path.parts]:
        parser.error(f"--copy takes folders below the current one, not {absolute[0]}")
    return run_pages(asked.pages, asked.copy)


if __name__ == "__main__":
    sys.exit(main())
