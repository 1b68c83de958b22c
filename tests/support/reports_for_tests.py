"""A pruned run whose class and file names are markup, and a browser to look at its pages with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.tasks_for_tests import write_task

import e2vpt

HOSTILE = "<img src=x onerror=window.hacked=1>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def hostile_run(folder: Path) -> Path:
    """A finished, pruned run in `folder`/run, of images in `folder`/data."""
    write_task(folder / "data", train=6, val=4, test=5)
    for split in ("train", "val", "test"):
        (folder / "data" / split / "ring").rename(folder / "data" / split / HOSTILE)
        for image in sorted((folder / "data" / split / "disc").iterdir())[:2]:
            image.rename(image.with_name(f"{HOSTILE}{image.name}"))
    shutil.copy(folder / "data/train/bars/00.png", folder / "data/val/disc/mislabelled.png")
    settings = {"num_visual": 4, "num_kv": 1, "keep_tokens": (0.5,), "keep_segments": (0.5,)}
    e2vpt.train(
        folder / "data",
        "demo",
        folder / "run",
        verbose=False,
        epochs=2,
        batch_size=9,
        lr=0.01,
        init="uniform",
        **settings,
    )
    return folder / "run"


@contextmanager
def opened_page(path: Path, **how: Any) -> Iterator[Any]:
    """A file in a fresh browser; afterwards no script has failed and nothing but the file was asked for."""
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(**how)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith("data:") or request.url.partition("#")[0] == path.as_uri()
                else problems.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert not problems, problems
