"""How many pixels are held decoded at once: a bound on the sum over all threads of the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 89_478_485
"""Pixels; as many as Pillow takes in one image without suspecting a decompression bomb."""

_change = threading.Condition()
_taken: dict[object, int] = {}
_thread = threading.local()


@contextmanager
def held() -> Iterator[None]:
    """Count the image that this thread decodes inside until the end of the block, not only while decoding.

    One image a block, and no waiting for another thread inside of it.
    """
    _thread.keys = []
    try:
        yield
    finally:
        for key in _thread.keys:
            _give_back(key)
        del _thread.keys


@contextmanager
def room_for(pixels: int) -> Iterator[None]:
    """Wait until so many pixels may be decoded; an image larger than the bound is decoded alone."""
    key = object()
    with _change:
        _change.wait_for(lambda: not _taken or sum(_taken.values()) + pixels <= AT_ONCE)
        _taken[key] = pixels
    is_held = False
    try:
        yield
        # What failed holds no pixels: kept, it would make a second try of the same thread wait for itself.
        is_held = hasattr(_thread, "keys")
    finally:
        if is_held:
            _thread.keys.append(key)
        else:
            _give_back(key)


def _give_back(key: object) -> None:
    with _change:
        del _taken[key]
        _change.notify_all()
