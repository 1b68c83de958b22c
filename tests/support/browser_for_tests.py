"""The machine's Chromium: a page in it, and the faults it reports."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def opened_page(
    place: Path | str, width: int = 1280, scheme: str = "light", *, also: str = "data:"
) -> Iterator[Any]:
    """A file or an address in a fresh browser.

    At the end no script has failed, the console is empty of errors, and nothing but the place itself, what
    lies below it and addresses that begin with `also` was asked for.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    chromium = next((each for each in found if each), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    url = place.as_uri() if isinstance(place, Path) else place
    problems: list[str] = []

    def on_console(said: Any) -> None:
        # A server's refusal is shown by the page, which has tests of its own.
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            problems.append(said.text)

    def on_request(request: Any) -> None:
        if not request.url.startswith((url, also)):
            problems.append(request.url)

    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", on_console)
        page.on("request", on_request)
        page.goto(url)
        yield page
        browser.close()
    assert not problems, problems
