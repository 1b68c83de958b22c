"""Colours and words for values over a picture."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from e2vpt.insight.documents import data_uri
from e2vpt.insight.explanations.heat import as_picture, over_picture, place_of, signed_over_picture

GREY = np.full((32, 32, 3), 0.5, dtype=np.float32)


def values(row: slice, column: slice, value: float = 1.0) -> np.ndarray:
    made = np.zeros((9, 9), dtype=np.float32)
    made[row, column] = value
    return made


def test_the_place_is_said() -> None:
    first, middle, last = slice(0, 3), slice(3, 6), slice(6, 9)
    assert place_of(values(first, first)) == "the upper left"
    assert place_of(values(middle, middle)) == "the middle"
    assert place_of(values(middle, last)) == "the right part"
    assert place_of(values(last, middle)) == "the lower part"


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_signs_have_colours(value: float) -> None:
    pixels = np.asarray(signed_over_picture(GREY, values(slice(0, 4), slice(0, 4), value)), dtype=int)
    red, _, blue = pixels[30, 30]
    assert (red > blue) == (value > 0)
    red, _, blue = pixels[-10, -10]
    assert abs(red - blue) < 10


def test_high_values_are_bright_and_those_below_zero_are_not_shown() -> None:
    warm = np.asarray(over_picture(GREY, values(slice(0, 4), slice(0, 4))), dtype=int)
    assert warm[20, 20].sum() > warm[-20, -20].sum() + 100
    none = over_picture(GREY, values(slice(0, 4), slice(0, 4), -1.0))
    assert len(none.getcolors() or []) == 1


def test_small_pictures_are_enlarged_and_lie_in_their_address() -> None:
    picture = as_picture(np.zeros((30, 60, 3), dtype=np.float32))
    assert picture.size == (448, 224)
    head, encoded = data_uri(picture).split(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (448, 224)
