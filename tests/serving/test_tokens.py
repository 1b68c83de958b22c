"""Who may ask, who may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2vpt.errors import ConfigError
from e2vpt.serving.refusals import Refused
from e2vpt.serving.tokens import Tokens, read_tokens

A, B, ADMIN = "a" * 16, "b" * 16, "c" * 16


def status(check: object, header: str | None) -> int:
    try:
        check(header)  # type: ignore[operator]
    except Refused as refused:
        return 0 if A in refused.reason else refused.status
    return 200


def test_tokens_open_what_they_are_for() -> None:
    tokens = Tokens(predict=(A, B), admin=(ADMIN,))
    for header, predict, admin in [
        (f"Bearer {A}", 200, 401),
        (f"bearer  {B}", 200, 401),
        (f"Bearer {ADMIN}", 200, 200),
        (f"Bearer {A[:-1]}", 401, 401),
        (f"Bearer {A}a", 401, 401),
        (f"Basic {ADMIN}", 401, 401),
        (ADMIN, 401, 401),
        ("", 401, 401),
        (None, 401, 401),
        ("Bearer \udcff", 401, 401),
    ]:
        assert (status(tokens.check_predict, header), status(tokens.check_admin, header)) == (predict, admin)
    assert A not in repr(tokens)


def test_without_tokens_everyone_may_ask_and_nobody_change() -> None:
    assert status(Tokens().check_predict, None) == 200
    assert status(Tokens().check_admin, f"Bearer {ADMIN}") == 403


def test_where_tokens_are_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{A}\n\n  {B}\n")
    assert read_tokens(file, "X", {"X": ADMIN}) == [A, B]
    assert read_tokens(None, "X", {"X": ADMIN}) == [ADMIN]
    assert read_tokens(None, "X", {}) == []


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"a" * 16 + b" short", b"\xff" * 20, b"\1" * 20])
def test_files_that_hold_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="token") as error:
        read_tokens(file, "X")
    assert A not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read as tokens"):
        read_tokens(tmp_path, "X")
