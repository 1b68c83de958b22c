"""Images and adapter files in requests: those that are none are refused, odd ones are answered."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.requests_for_tests import INFER, PNG, PREDICT, binary_request, refusal
from support.serving_for_tests import AS_ADMIN, RunningServer, make_adapter

from e2vpt.files.container import read_container, write_container


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = zlib.compress(bytes(side // 8 + 1) * side, 9)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", row) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "empty"),
        (b"no image", "not an image"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:40], "image"),
        (bomb(20_000), "decompression bomb"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_images_that_are_none(server: RunningServer, image: bytes, reason: str) -> None:
    body, headers = binary_request(struct.pack("<I", len(image)) + image)
    data = base64.b64encode(image).decode()
    with server.client() as client:
        answers = [
            client.post(INFER, content=body, headers=headers),
            client.post(PREDICT, files={"images": ("a.png", image)}, data={"task": "task0"}),
            client.post(PREDICT, json={"task": "task0", "images": [{"data": data}]}),
        ]
    for answer in answers:
        status, found = refusal(answer)
        assert (status, reason in found) == (422, True), found
    assert server.alive


def test_a_valid_image_of_every_mode_is_answered(server: RunningServer) -> None:
    with server.client() as client:
        for mode in ("1", "L", "LA", "P", "RGBA", "I;16", "CMYK"):
            file = io.BytesIO()
            Image.new(mode, (9, 5)).save(file, "TIFF" if mode == "CMYK" else "PNG")
            answer = client.post(PREDICT, files={"images": file.getvalue()}, data={"task": "task0"})
            assert answer.status_code == 200, answer.text


def altered(path: Path, change: dict[str, Any]) -> bytes:
    """An adapter whose tensors are replaced, its checksum right."""
    header, tensors, _ = read_container(path)
    out = path.with_suffix(".altered")
    write_container(out, header, tensors | change)
    return out.read_bytes()


def test_adapters_that_cannot_be_served(
    server: RunningServer, adapters: dict[str, Path], tmp_path: Path
) -> None:
    good = adapters["task1"].read_bytes()
    copied = tmp_path / "a.safetensors"
    copied.write_bytes(good)
    name, tensor = next((n, t) for n, t in read_container(copied)[1].items() if n.startswith("blocks"))
    other_size = make_adapter(tmp_path / "b.safetensors", 1, image_size=64)
    uploads = [
        *(b"", b"x", good[:-1], good[:100], good + b"x", b"\xff" * 8 + good[8:], b"PK\x03\x04" + good),
        *(b"\x80\x04K\x01.", struct.pack("<Q", 2**40), struct.pack("<Q", 2) + b"{}"),
        *(altered(copied, {name: tensor[..., :-1]}), altered(copied, {"head.weight": torch.zeros(3, 7)})),
        *(altered(copied, {"head.bias": torch.full((3,), torch.nan)}), altered(copied, {"x": tensor})),
        other_size.read_bytes(),
        make_adapter(tmp_path / "c.safetensors", 1, method="vpt-shallow").read_bytes(),
    ]
    with server.client(AS_ADMIN) as client:
        for upload in uploads:
            assert refusal(client.put("/v1/tasks/task1", content=upload))[0] == 422
            assert refusal(client.put("/v1/tasks/new", content=upload))[0] == 422
        names = {row["name"] for row in client.get("/v1/tasks").json()["tasks"]}
        assert names == {f"task{index}" for index in range(6)}
        assert client.post(PREDICT, files={"images": PNG}, data={"task": "task1"}).status_code == 200
