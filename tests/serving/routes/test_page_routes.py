"""The page in a real browser: a token, pictures, answers, tasks; and nothing from elsewhere."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser_for_tests import opened_page
from support.serving_for_tests import (
    TOKEN,
    RunningServer,
    encoded_image,
    make_adapter,
    make_adapters,
    make_service,
    offline,
    running_server,
)

import e2vpt

playwright = pytest.importorskip("playwright.sync_api")
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two tasks, one with a class name that is markup; a token is asked for."""
    folder = tmp_path_factory.mktemp("page")
    adapters = make_adapters(folder, 1)
    path = make_adapter(folder / "hostile.safetensors", 4)
    model, info = e2vpt.load_adapter(path)
    classes = [HOSTILE, *info.classes[1:]]
    e2vpt.save_adapter(copy.deepcopy(model), path, classes=classes, preprocessing=info.preprocessing)
    with running_server(make_service(adapters | {"hostile": path})) as running:
        yield running


@pytest.fixture
def page(server: RunningServer) -> Iterator[playwright.Page]:
    """The page in a fresh browser; at the end no script has failed and nothing was asked of another host."""
    with opened_page(server.url, also="blob:") as opened:
        yield opened


def enter(page: playwright.Page, token: str = TOKEN) -> None:
    page.wait_for_selector("#access:not([hidden])")
    page.fill("#token", token)
    page.keyboard.press("Enter")


def test_a_token_is_asked_for_and_a_wrong_one_is_said(page: playwright.Page) -> None:
    enter(page, "a-wrong-token-of-nobody")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "That token was not accepted."
    assert page.is_hidden("#main")
    enter(page)
    page.wait_for_selector("#rows tr")
    assert page.inner_text("#count") == "2 tasks loaded." and page.is_hidden("#problem")


def test_pictures_are_answered_as_offline(
    page: playwright.Page, server: RunningServer, tmp_path: Path
) -> None:
    enter(page)
    page.wait_for_selector("#rows tr")
    picture = tmp_path / "some <b>picture.png"
    picture.write_bytes(encoded_image(0))
    page.select_option("#task", "task0")
    page.select_option("#other", "hostile")
    page.set_input_files("#files", picture)
    page.wait_for_selector("#results li")
    columns = page.locator("#results > li").first.locator(".column")
    for index, task in enumerate(("task0", "hostile")):
        column = columns.nth(index)
        assert column.locator("h3").inner_text() == task
        path = server.service.catalogue.get(task).path
        classes, scores = offline(path, picture.read_bytes(), topk=3)
        assert column.locator(".name").all_inner_texts() == list(classes)
        assert column.locator(".share").all_inner_texts() == [f"{100 * score:.1f} %" for score in scores]
    assert page.locator(".answer > p").inner_text() == picture.name
    assert re.fullmatch(r"2 answers in \d+ ms, upload included\.", page.inner_text("#status"))
    page.click("#clear")
    assert page.locator("#results li").count() == 0 and page.is_hidden("#answered")


def test_names_are_shown_and_never_run(page: playwright.Page) -> None:
    enter(page)
    page.wait_for_selector("#rows tr")
    assert HOSTILE in page.inner_text("#rows")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    page.fill("#filter", "onerror")
    assert page.locator("#rows th").all_inner_texts() == ["hostile"]
    page.fill("#filter", "nothing has this")
    assert page.inner_text("#none") == "No task has these letters in its name or classes."


def test_a_file_that_is_no_picture_is_said(page: playwright.Page, tmp_path: Path) -> None:
    enter(page)
    page.wait_for_selector("#rows tr")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.set_input_files("#files", broken)
    page.wait_for_selector("#problem:not([hidden])")
    assert "broken.png" in page.inner_text("#problem")
    assert page.locator("#results li").count() == 0


def test_the_keyboard_is_enough(page: playwright.Page) -> None:
    enter(page)
    page.wait_for_selector("#rows tr")
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached[:4] == ["task", "other", "topk", "files"] and "filter" in reached


def test_files_say_what_they_are_and_load_nothing_from_elsewhere(server: RunningServer) -> None:
    with server.client({}) as client:
        for path, kind in (
            *(("/", "text/html"), ("/page/page.css", "text/css")),
            *(("/page/page.js", "text/javascript"), ("/page/icon.svg", "image/svg+xml")),
        ):
            answer = client.get(path)
            assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
        assert client.get("/page/../app.py").status_code == 404
        assert client.get("/page/%2e%2e/app.py").status_code == 404
