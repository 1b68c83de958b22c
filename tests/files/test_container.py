"""The outer form of a file: exact round trips, equal bytes, and bad files refused before they cost memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import sys
import tracemalloc
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.adapter_files import join_file, split_file

from e2vpt.errors import AdapterFormatError, ConfigError, RunError
from e2vpt.files.container import MAX_HEADER, read_container, write_container

HEADER = {"kind": "test", "text": 'quotes " \\ and \x1b[31m, été, 猫, 🐈', "numbers": [1, 0.1, -1e-300]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file.safetensors"
    write_container(file, HEADER, tensors())
    return file


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(6, 5, generator=generator)
    return {
        "b.transposed": drawn.T,
        "a.half": drawn.half(),
        "c.bool": drawn > 0,
        "d.scalar": torch.tensor(3.0),
        "e.empty": torch.zeros(0, 4),
        "f.special": torch.tensor([float("nan"), float("inf"), -0.0]),
        "g.parameter": torch.nn.Parameter(drawn[:2]),
        "h.whole": torch.arange(4),
    }


def test_round_trip_is_exact(path: Path) -> None:
    header, found, size = read_container(str(path))
    assert header == HEADER and size == path.stat().st_size
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert found[name].numpy().tobytes() == tensor.detach().contiguous().numpy().tobytes()


def test_any_safetensors_reader_reads_it(path: Path) -> None:
    found = safetensors.torch.load_file(path)
    assert torch.equal(found["a.half"], tensors()["a.half"])


def test_same_input_same_bytes(tmp_path: Path) -> None:
    shuffled = dict(reversed(tensors().items()))
    contents = set()
    for index in range(20):  # safetensors orders several metadata entries at random
        written = write_container(tmp_path / "f", HEADER, shuffled if index % 2 else tensors())
        contents.add((tmp_path / "f").read_bytes())
        assert written == (tmp_path / "f").stat().st_size
    assert len(contents) == 1


def test_every_truncation_and_any_byte_more(path: Path, tmp_path: Path) -> None:
    content, broken = path.read_bytes(), tmp_path / "broken"
    for cut in [*range(0, len(content), 7), len(content) - 1]:
        broken.write_bytes(content[:cut])
        with pytest.raises(AdapterFormatError, match=r"broken is damaged or not an e2vpt file: "):
            read_container(broken)
    broken.write_bytes(content + b"\0")
    with pytest.raises(AdapterFormatError, match=r"damaged .*Copy it again"):
        read_container(broken)


def test_every_byte_is_guarded(path: Path, tmp_path: Path) -> None:
    """A changed byte (every second one) is refused, or (in the padding of the header) changes nothing."""
    content, changed = path.read_bytes(), tmp_path / "changed"
    header, expected, size = read_container(path)
    for position in range(8, len(content), 2):
        changed.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        try:
            found = read_container(changed)
        except AdapterFormatError:
            continue
        assert (found[0], found[2]) == (header, size)
        assert all(t.numpy().tobytes() == expected[name].numpy().tobytes() for name, t in found[1].items())


def message(content: bytes, tmp_path: Path) -> str:
    """What an error says behind the path, as folders of tests are named after them."""
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(AdapterFormatError) as caught:
        read_container(path)
    text = str(caught.value)
    assert str(path) in text and text.isprintable() and len(text) < 1000
    return text.rpartition(str(path))[2]


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    assert "it has 0 bytes" in message(b"", tmp_path)
    assert "it has 7 bytes" in message(b"1234567", tmp_path)
    assert "its header should have" in message(b"PK\x03\x04 a zip file of some length", tmp_path)
    assert "its header is not JSON" in message(join_file(b"{]", b""), tmp_path)
    assert "its header is not JSON in ASCII" in message(join_file(b"\xff" * 20, b""), tmp_path)
    assert "its header is not a JSON object" in message(join_file(b"[1, 2]", b""), tmp_path)
    assert "not one of e2vpt" in message(safetensors.torch.save({"x": torch.ones(2)}), tmp_path)
    assert "not one of e2vpt" in message(safetensors.torch.save({}, metadata={"format": "pt"}), tmp_path)
    for metadata in ([], "x", None, {"e2vpt": 3}, {"e2vpt": None}):
        assert "not one of e2vpt" in message(join_file({"__metadata__": metadata}, b""), tmp_path)
    assert "checksum" in message(join_file({"__metadata__": {"e2vpt": "{}"}}, b""), tmp_path)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(AdapterFormatError, match=r"Cannot read .*none: No such file"):
        read_container(tmp_path / "none")
    with pytest.raises(AdapterFormatError, match=r"Cannot read .*: it is not a file"):
        read_container(tmp_path)
    with pytest.raises(AdapterFormatError, match=r"Cannot read .*embedded null"):
        read_container("a\0b")


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes on Windows")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AdapterFormatError, match="it is not a file"):
        read_container(tmp_path / "pipe")


def test_a_huge_foreign_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(safetensors.torch.save({"x": torch.ones(2)}))
    os.truncate(path, 2**36)  # 64 GB, of holes
    with pytest.raises(AdapterFormatError, match="not one of e2vpt"):
        read_container(path)


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 2**62, 2**63, 2**64 - 1])
def test_header_lengths_that_cannot_be(tmp_path: Path, length: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(struct.pack("<Q", length) + b" " * 100)
    with pytest.raises(AdapterFormatError, match=f"its header should have {length} bytes and .* after 100"):
        read_container(path)
    os.truncate(path, MAX_HEADER + 1000)
    with pytest.raises(AdapterFormatError, match=f"its header (should have|has) {length} bytes"):
        read_container(path)


@pytest.mark.parametrize(
    "junk",
    [b"[" * 4_000_000, b'{"a":' * 600_000, b"{}," * 1_000_000, b'"ab",' * 600_000, b'"a":0,' * 500_000],
    ids=["nested lists", "nested objects", "objects", "strings", "fields"],
)
def test_headers_that_grow_when_parsed(tmp_path: Path, junk: bytes) -> None:
    for text in (junk, b'{"a":[' + junk + b"0]}", b'{"__metadata__":{"e2vpt":"x"},"a":{' + junk + b'"b":0}}'):
        content = join_file(text, b"")
        (tmp_path / "f").write_bytes(content)
        tracemalloc.start()
        with pytest.raises(AdapterFormatError, match=r"its header has about .* values, more than the"):
            read_container(tmp_path / "f")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * len(content)


def test_an_inner_header_that_grows_when_parsed(tmp_path: Path) -> None:
    """The same in the text that the outer header holds as one string, escaped and with a checksum."""
    wide = json.dumps("🐈" + "a" * 3_000_000)
    with pytest.raises(ConfigError, match="cannot be stored: its header has about 200003 values"):
        write_container(tmp_path / "f", {"a": [[]] * 100_000}, {})
    for inner in ('{"a":[' + "[]," * 300_000 + "0]}", wide, "[" * 20_000, "[" * 3_900):
        content = join_file({"__metadata__": {"e2vpt": "0" * 64 + " " + inner}}, b"")
        (tmp_path / "f").write_bytes(content)
        tracemalloc.start()
        with pytest.raises(AdapterFormatError):
            read_container(tmp_path / "f")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * len(content) + 1_000_000


def test_a_deep_header_with_its_right_checksum(tmp_path: Path) -> None:
    for inner, why in (
        *((text, r"its header is not JSON \(") for text in ("[" * 3_900, "1" * 5_000, "NaN", '{"a": 1')),
        *((text, "its header is not a JSON object") for text in ("null", '"text"')),
        ("\ud800", "Error while deserializing"),
    ):
        digest = hashlib.sha256(inner.encode(errors="surrogatepass")).hexdigest()
        text = message(join_file({"__metadata__": {"e2vpt": f"{digest} {inner}"}}, b""), tmp_path)
        assert re.search(why, text), (inner[:9], text)


def test_names_that_stand_twice_and_constants_that_are_no_json(tmp_path: Path) -> None:
    for inner, why in (
        ('{"a": 1, "a": 2}', "a name stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "a name stands twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": [-Infinity]}', "-Infinity is not JSON"),
    ):
        checksum = hashlib.sha256(inner.encode()).hexdigest()
        text = message(join_file({"__metadata__": {"e2vpt": f"{checksum} {inner}"}}, b""), tmp_path)
        assert why in text, (inner, text)


def test_a_strangers_words_do_not_steer_the_terminal(tmp_path: Path, path: Path) -> None:
    outer, data = split_file(path.read_bytes())
    outer["a.half"]["dtype"] = "\x1b]0;owned\x07\u202e\n" + "A" * 5000
    text = message(join_file(outer, data), tmp_path)
    assert "\\x1b]0;owned\\x07\\u202e\\nAAA" in text and "AAA ..." in text


def test_shapes_dtypes_and_offsets_that_lie(tmp_path: Path, path: Path) -> None:
    outer, data = split_file(path.read_bytes())
    lies = {
        "shape": ([2**63, 2**63], [-1, 30], [30], [6, 6], [], [5.5], "x", None, [10**9]),
        "dtype": ("F32", "BF16", "I16", "F4", "F8_E4M3", "C64", "", 3, None),
        "data_offsets": ([0, 2**64], [60, 0], [0], None, [0, 10**30], [1, 61]),
    }
    for field, values in lies.items():
        for value in values:
            changed = {**outer, "a.half": {**outer["a.half"], field: value}}
            message(join_file(changed, data), tmp_path)


def test_what_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The header of .*f cannot be stored as JSON: .*Out of range"):
        write_container(tmp_path / "f", {"loss": float("nan")}, {})
    with pytest.raises(ConfigError, match=r"cannot be stored as JSON: .*not JSON serializable"):
        write_container(tmp_path / "f", {"loss": torch.ones(1)}, {})
    with pytest.raises(ConfigError, match=rf"its header has .* bytes, more than the {MAX_HEADER}"):
        write_container(tmp_path / "f", {"text": "x" * MAX_HEADER}, {})
    with pytest.raises(RunError, match="Could not write"):
        write_container(tmp_path / "missing" / "f", {}, {})
    assert not list(tmp_path.iterdir())


def test_reading_holds_the_file_twice_and_no_more(tmp_path: Path) -> None:
    """Bytes and tensors; hashing copies nothing."""
    size = write_container(tmp_path / "f", {}, {"x": torch.zeros(1_000_000)})
    tracemalloc.start()
    read_container(tmp_path / "f")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.1 * size


def test_the_checksum_covers_text_names_dtypes_shapes_and_bytes(tmp_path: Path) -> None:
    write_container(tmp_path / "f", {"a": 1}, {"b": torch.tensor([1, 2], dtype=torch.uint8)})
    entry = split_file((tmp_path / "f").read_bytes())[0]["__metadata__"]["e2vpt"]
    expected = hashlib.sha256(b'{"a": 1}' + b"\0b\0torch.uint8\0(2,)\0" + b"\x01\x02").hexdigest()
    assert entry == f'{expected} {{"a": 1}}'
