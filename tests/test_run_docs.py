"""scripts/run_docs.py: which blocks run, which are skipped, and that a failing one fails the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "run_docs.py"
GOOD = """
# A page

```sh
pip install nothing-of-this-name
echo made > file.txt
```

```text
echo not a command
exit 3
```

<!-- needs: network -->
```sh
exit 4
```

```python
from pathlib import Path
print("read", Path("file.txt").read_text().strip(), Path("runs/old/note").read_text())
```
"""


def call(folder: Path, page: str, *words: str) -> tuple[int, str]:
    (folder / "page.md").write_text(page, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "page.md", *words], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_blocks_run_in_order_in_one_fresh_folder(tmp_path: Path) -> None:
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "note").write_text("copied")
    code, said = call(tmp_path, GOOD, "--copy", "runs/old")
    assert code == 0, said
    assert "read made copied" in said
    assert "page.md:4: not run: pip install nothing-of-this-name" in said
    assert "page.md:15: skipped, needs network" in said
    assert "2 blocks ran." in said
    assert not (tmp_path / "file.txt").exists()


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("```sh\nfalse\necho on\n```\n", 1),
        ("```sh\nexit 3 | cat\n```\n", 1),
        ("text\n\n```python\nraise SystemExit(2)\n```\n", 3),
        ("<!-- needs: network -->\n\nSome words.\n\n```sh\nfalse\n```\n", 5),
        ("* an item\n\n  ```sh\n  false\n  ```\n", 3),
        ("```sh\ne2vpt no-such-command 2> /dev/null\n```\n", 1),
    ],
    ids=["first line", "pipe", "python", "mark is not directly before", "in a list", "e2vpt"],
)
def test_a_failing_block_fails(tmp_path: Path, page: str, line: int) -> None:
    code, said = call(tmp_path, page + "\n```sh\necho too late > late.txt; echo LATE\n```\n")
    assert code == 1, said
    assert f"page.md:{line}: FAILED" in said
    assert "LATE" not in said


def test_a_folder_outside_is_refused(tmp_path: Path) -> None:
    code, said = call(tmp_path, GOOD, "--copy", "../elsewhere")
    assert code == 2
    assert "below the current one" in said
