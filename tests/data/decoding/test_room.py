"""All threads together decode a bounded number of pixels at once."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from e2vpt.data.decoding import room
from e2vpt.data.decoding.images import decode
from e2vpt.data.decoding.room import held, room_for


def test_the_sum_over_threads_is_bounded_and_everyone_gets_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AT_ONCE", 100)
    now, most, change = [0], [0], threading.Lock()

    def work(pixels: int) -> int:
        with held():
            with room_for(pixels):
                pass
            with change:
                now[0] += pixels
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.002)
            with change:
                now[0] -= pixels
        return pixels

    with ThreadPoolExecutor(8) as pool:
        sizes = [40, 70, 10, 100, 30] * 12
        assert list(pool.map(work, sizes)) == sizes
    assert 70 < most[0] <= 100


def test_an_image_larger_than_the_bound_is_decoded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AT_ONCE", 100)
    with room_for(500):
        waiting = threading.Thread(target=lambda: room_for(1).__enter__(), daemon=True)
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_second_try_in_the_same_block_does_not_wait_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG whose texts, behind its pixels, unpack to too much is decoded again without them."""
    out, texts = io.BytesIO(), PngInfo()
    texts.add_text("note", "x" * 2_000_000, zip=True)
    Image.new("L", (40, 40), 7).save(out, "PNG", pnginfo=texts)
    head, _, rest = out.getvalue().partition(b"zTXt")
    size, end = int.from_bytes(head[-4:], "big"), b"\0\0\0\0IEND"
    chunk, rest = head[-4:] + b"zTXt" + rest[: size + 4], rest[size + 4 :]
    late = head[:-4] + rest.partition(end)[0] + chunk + end + rest.partition(end)[2]
    monkeypatch.setattr(room, "AT_ONCE", 1000)

    def work() -> tuple[int, int]:
        with held():
            return decode(late, "late.png").size

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result(timeout=20) == (40, 40)


def test_room_comes_back_after_errors() -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), held(), room_for(room.AT_ONCE):
            1 / 0  # noqa: B018
    with room_for(room.AT_ONCE):
        pass
