"""MATLAB files are read into numbers and texts; whatever is broken or is not that is named."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from support.fgvc_for_tests import cells

from e2vpt.benchmarks.fgvc.matlab import MAX_MAT_BYTES, MatFile, mat_numbers, mat_texts, read_mat
from e2vpt.data.decoding.images import ImageFile
from e2vpt.errors import DataError, MissingExtra


def _saved(variables: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, **options)
    return file.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> ImageFile:
    return ImageFile(name="a.mat", path=tmp_path / "a.mat")


def _saved_mat(place: ImageFile, **variables: Any) -> MatFile:
    return _read(place, _saved(variables))


def _read(place: ImageFile, data: bytes) -> MatFile:
    place.path.write_bytes(data)
    return read_mat(place)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint16, np.float64])
def test_numbers_of_any_type_and_orientation(place: ImageFile, compressed: bool, kind: type) -> None:
    numbers = np.array([[3, 1, 200]], kind)
    data = _saved({"row": numbers, "column": numbers.T}, do_compression=compressed)
    mat = _read(place, data)
    assert mat_numbers(mat, "row") == mat_numbers(mat, "column") == [3, 1, 200]
    assert all(isinstance(number, int) for number in mat_numbers(mat, "row"))


def test_matrices_are_read_by_columns(place: ImageFile) -> None:
    assert mat_numbers(_saved_mat(place, x=np.array([[1, 3], [2, 4]])), "x") == [1, 2, 3, 4]


def test_cells_and_structures(place: ImageFile) -> None:
    struct = np.zeros((1, 2), dtype=[("class", object), ("fname", object), ("test", object)])
    struct[0, 0], struct[0, 1] = (np.uint8(14), "00001.jpg", False), (np.uint8(3), "é b.jpg", True)
    mat = _saved_mat(place, annotations=struct, names=cells(["Acura RL", "Audi"]))
    assert mat_texts(mat, "names") == ["Acura RL", "Audi"]
    assert mat_texts(mat, "annotations", "fname") == ["00001.jpg", "é b.jpg"]
    assert mat_numbers(mat, "annotations", "class") == [14, 3]
    assert mat_numbers(mat, "annotations", "test") == [0, 1]


def test_one_entry_is_a_list_too(place: ImageFile) -> None:
    struct = np.zeros((1, 1), dtype=[("fname", object)])
    struct[0, 0] = ("00001.jpg",)
    mat = _saved_mat(place, x=np.array([[7]]), names=cells(["only"]), annotations=struct)
    assert (mat_numbers(mat, "x"), mat_texts(mat, "names")) == ([7], ["only"])
    assert mat_texts(mat, "annotations", "fname") == ["00001.jpg"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([[1.0, 2.5]]), r"a\.mat: x, entry 2 is '2\.5'; expected a whole number"),
        (np.array([[np.nan]]), r"x, entry 1 is 'nan'; expected a whole number"),
        (np.array([[np.inf]]), r"x, entry 1 is 'inf'; expected a whole number"),
        (np.array([[1 + 2j]]), r"x, entry 1 is '\(1\+2j\)'; expected a whole number"),
        (cells(["1"]), r"x, entry 1 is '1'; expected a whole number"),
    ],
)
def test_what_is_no_number(place: ImageFile, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mat_numbers(_saved_mat(place, x=value), "x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (cells(["a", ""]), r"a\.mat: x, entry 2 is '\[\]'; expected a text"),
        (cells(["a", "  "]), r"x, entry 2 is '  '; expected a text"),
        (np.array([[1, 2]]), r"x, entry 1 is '1'; expected a text"),
    ],
)
def test_what_is_no_text(place: ImageFile, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mat_texts(_saved_mat(place, x=value), "x")


def test_missing_variables_and_fields_are_named_with_those_that_are_there(place: ImageFile) -> None:
    struct = np.zeros((1, 1), dtype=[("class", object), ("bbox", object)])
    struct[0, 0] = (np.uint8(1), np.uint8(1))
    mat = _saved_mat(place, b=np.array([1]), annotations=struct)
    with pytest.raises(DataError, match=r"a\.mat has no 'labels'; found annotations, b\. Is it whole"):
        mat_numbers(mat, "labels")
    with pytest.raises(DataError, match=r"annotations has no field 'fname'; found class, bbox"):
        mat_texts(mat, "annotations", "fname")
    with pytest.raises(DataError, match=r"b has no field 'fname'; found no fields"):
        mat_texts(mat, "b", "fname")


# The last bytes of an uncompressed element fill up a multiple of 8; without them nothing is lost.
@pytest.mark.parametrize(("compressed", "padding"), [(False, 7), (True, 0)])
def test_every_truncation_is_refused(place: ImageFile, compressed: bool, padding: int) -> None:
    struct = np.zeros((1, 3), dtype=[("fname", object)])
    for i in range(3):
        struct[0, i] = (f"{i:05d}.jpg",)
    data = _saved({"annotations": struct}, do_compression=compressed)
    assert mat_texts(_read(place, data), "annotations", "fname")[2] == "00002.jpg"
    for size in range(len(data) - padding):
        with pytest.raises(DataError, match=r"a\.mat"):
            mat_texts(_read(place, data[:size]), "annotations", "fname")


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_of_numbers_is_refused(place: ImageFile, compressed: bool) -> None:
    data = _saved({"labels": np.arange(40, dtype=np.uint8)}, do_compression=compressed)
    assert mat_numbers(_read(place, data), "labels") == list(range(40))
    for size in range(len(data)):
        with pytest.raises(DataError, match=r"a\.mat"):
            mat_numbers(_read(place, data[:size]), "labels")


@pytest.mark.parametrize("data", [b"", b"<html>404 Not Found</html>" * 20, bytes(1000)])
def test_what_is_no_matlab_file(place: ImageFile, data: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.mat"):
        mat_numbers(_read(place, data), "labels")


def test_the_newer_format_is_refused(place: ImageFile) -> None:
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(500)
    with pytest.raises(DataError, match=r"a\.mat cannot be read as a MATLAB file.*HDF"):
        _read(place, header)


def test_a_large_file_is_refused_unread(place: ImageFile) -> None:
    with place.path.open("wb") as file:
        file.truncate(MAX_MAT_BYTES + 1)
    with pytest.raises(DataError, match=rf"a\.mat has {MAX_MAT_BYTES + 1} bytes; expected at most"):
        read_mat(place)


def test_without_scipy_the_command_is_named(place: ImageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vpt\[bench\]'"):
        _read(place, b"")
