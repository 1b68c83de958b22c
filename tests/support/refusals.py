"""Many calls that must be refused, each with its message, in one test: all that are not are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def not_refused(
    cases: Iterable[tuple[Callable[[], object], str]],
    *errors: type[Exception],
) -> list[str]:
    """What is wrong, where a call is not refused by one of the errors and with its message, a pattern."""
    found = []
    for number, (call, message) in enumerate(cases):
        try:
            call()
        except errors as error:
            if not re.search(message, str(error)):
                found.append(f"case {number}: expected {message!r}, got {error}")
        else:
            found.append(f"case {number}: nothing was refused; expected {message!r}")
    return found
