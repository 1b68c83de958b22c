"""Seeded ways to damage an adapter file, from a flipped bit to a lie under a checksum that fits."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import torch
from support.adapter_files import Header, join_file, split_file
from torch import Tensor

from e2vpt.files.container import _checksum

Mutation = Callable[[bytes, Random], bytes]

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 10**9, -(10**9), 2**63, 10**400, 0.5, 1e300, float("nan"), float("inf"),
    "", "x", "fp16", "fp32", "token", "avg", "deep", "shallow", "patch", "x" * 10_000, "\x1b[31mred", "a\nb",
    "\ud800", "🐈" * 50, "../../etc/passwd", "hf-hub:evil/x", [], {}, [[]], [1], [10**9, 10**9], [3, 3, 3],
    ["a"] * 4, {"a": 1}, {"": {}}, json.loads("[" * 400 + "]" * 400), ["x"] * 9000,
)  # fmt: skip


# Bytes, whatever they mean.


def _place(content: bytes, random: Random) -> int:
    """Half of the time in the header, which is a small part of the file."""
    header = 8 + struct.unpack("<Q", content[:8])[0]
    return random.randrange(header) if random.random() < 0.5 else random.randrange(len(content))


def flip_bits(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 8])):
        changed[_place(content, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, random: Random) -> bytes:
    start, length = _place(content, random), random.choice([1, 2, 8, 64, 4096])
    new = random.choice([random.randbytes(length), bytes(length), b"\xff" * length, b"[" * length])
    return (content[:start] + new + content[start + length :])[: len(content)]


def truncate(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def insert(content: bytes, random: Random) -> bytes:
    start = random.choice([0, _place(content, random), len(content)])
    return content[:start] + random.randbytes(random.choice([1, 3, 8, 1000])) + content[start:]


def delete(content: bytes, random: Random) -> bytes:
    start = _place(content, random)
    return content[:start] + content[start + random.choice([1, 4, 8, 1000]) :]


def move(content: bytes, random: Random) -> bytes:
    first, second = sorted(_place(content, random) for _ in range(2))
    length = random.choice([1, 16, 500])
    cut = content[first : first + length]
    return content[:first] + content[first + length : second] + cut + content[second:]


def header_length(content: bytes, random: Random) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    near = [max(length + random.randrange(-9, 10), 0), length // 2, len(content) - 8, len(content)]
    new = random.choice([*near, 0, 1, 2**32, 2**63, 2**64 - 1, random.getrandbits(64)])
    return struct.pack("<Q", new) + content[8:]


# The outer header: what safetensors itself is told.


def outer_field(content: bytes, random: Random) -> bytes:
    outer, data = split_file(content)
    name = random.choice([name for name in outer if name != "__metadata__"])
    field = random.choice(["shape", "dtype", "data_offsets"])
    value = outer[name][field]
    if field == "dtype":
        value = random.choice(["F32", "F16", "BF16", "BOOL", "U8", "I64", "F8_E4M3", "F4", "C64", "X", None])
    else:
        value = list(value)
        index = random.randrange(len(value))
        value[index] = random.choice([0, 1, -1, value[index] + 1, value[index] * 2, 2**40, 2**63, 2**64, 0.5])
        value = random.choice([value, value[::-1], value[:1], [*value, 1], [0, 2**62]])
    outer[name][field] = value
    return join_file(outer, data)


def outer_structure(content: bytes, random: Random) -> bytes:
    outer, data = split_file(content)
    names = [name for name in outer if name != "__metadata__"]
    one, two = random.sample(names, 2)
    match random.randrange(8):
        case 0:
            outer[one], outer[two] = outer[two], outer[one]
        case 1:
            outer[two] = outer[one]
        case 2:
            del outer[one]
        case 3:
            outer[random.choice(["blocks.0.x", "head.\x1b[31m", "", "x" * 9999])] = outer.pop(one)
        case 4:
            outer["__metadata__"][random.choice(["e2vpt", "other"])] = random.choice(HOSTILE)
        case 5:
            outer = {"__metadata__": random.choice(HOSTILE)}
        case 6:
            outer[one] = random.choice(HOSTILE)
        case _:
            order = random.sample(list(outer), len(outer))  # another order is the same file
            outer = {name: outer[name] for name in order}
    return join_file(outer, data)


def outer_flood(content: bytes, random: Random) -> bytes:
    """JSON that grows when it is parsed."""
    outer, data = split_file(content)
    text = json.dumps(outer).encode()
    piece = random.choice([b"[", b"[],", b"{},", b'"a":0,', b'"abc",', b'{"a":', b"0,", b'"\\ud83d\\ude00",'])
    junk = piece * (random.choice([10, 1000, len(content) // 2, 4_000_000]) // len(piece))
    return join_file(
        random.choice([junk, b'{"x":[' + junk + b"0]," + text[1:], b"{" + junk + text[1:]]), data
    )


# Lies under a checksum that fits.


def seal(text: str, tensors: dict[str, Tensor]) -> bytes:
    plain = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    sealed = f"{_checksum(text, plain)} {text}".encode(errors="replace").decode()
    return safetensors.torch.save(plain, metadata={"e2vpt": sealed})


def opened(content: bytes) -> tuple[Header, dict[str, Tensor]]:
    text = split_file(content)[0]["__metadata__"]["e2vpt"].partition(" ")[2]
    return json.loads(text), dict(sorted(safetensors.torch.load(content).items()))


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, (dict, list)):
        return [here]
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    return ([here] if here else []) + [
        place for key, inner in items[:8] for place in _places(inner, (*here, key))
    ]


def sealed_field(content: bytes, random: Random) -> bytes:
    header, tensors = opened(content)
    for _ in range(random.choice([1, 1, 2])):
        *outer, last = random.choice(_places(header))
        place: Any = header
        for key in outer:
            place = place[key]
        match random.randrange(6):
            case 0 if isinstance(place, dict):
                del place[last]
            case 1 if isinstance(place, dict):
                place[random.choice(["extra", "\x1b[31m", ""])] = random.choice(HOSTILE)
            case 2 if type(place[last]) in (int, float):
                place[last] = place[last] + random.choice([-1, 1, 1000, 0.5])
            case _:
                place[last] = random.choice(HOSTILE)
    return seal(json.dumps(header), tensors)


def sealed_text(content: bytes, random: Random) -> bytes:
    """A header that is not even JSON, or other JSON, or the same JSON in other letters."""
    header, tensors = opened(content)
    text = json.dumps(header)
    start = random.randrange(len(text))
    junk = random.choice(["", "\\", '"', "{", "]", ",", "\x00", "é", "1" * 5000, "[" * 9000, "NaN", " "])
    length = random.choice([0, 1, 1, 10])
    changed = random.choice([text[:start] + junk + text[start + length :], text[:start], junk, f" {text}\n"])
    return seal(changed, tensors)


def sealed_tensors(content: bytes, random: Random) -> bytes:
    header, tensors = opened(content)
    name, other = random.sample(sorted(tensors), 2)
    tensor = tensors[name]
    match random.randrange(12):
        case 0:
            del tensors[name]
        case 1:
            tensors[random.choice(["blocks.9.visual", "blocks.-1.key", "blocks.0", "a", "head.x.y"])] = tensor
        case 2:
            tensors[name], tensors[other] = tensors[other], tensor
        case 3:
            tensors[name] = tensor[: random.randrange(len(tensor))]
        case 4:
            tensors[name] = torch.cat([tensor, tensor])
        case 5:
            tensors[name] = tensor.mT if tensor.dim() > 1 else tensor[None]
        case 6:
            tensors[name] = tensor.flatten()
        case 7:
            kinds = [torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.bool]
            tensors[name] = tensor.to(random.choice(kinds))
        case 8:
            tensors[name] = torch.zeros(random.choice([(0,), (), (0, 10**9), (10**9, 0), (1,) * 20]))
        case 9:
            filling = random.choice([float("nan"), float("inf"), 3.0])
            tensors[name] = torch.full_like(tensor, filling if tensor.is_floating_point() else 255)
        case 10:
            tensors = {
                new: tensors[old]
                for new, old in zip(tensors, random.sample(list(tensors), len(tensors)), strict=True)
            }
        case _:
            tensors = {f"{name}": torch.zeros(1) for name in tensors}
    return seal(json.dumps(header), tensors)


def sealed_bits(content: bytes, random: Random) -> bytes:
    """Other numbers of the same shape: another adapter, where they are numbers, and 0 or 1 in a mask."""
    header, tensors = opened(content)
    for name in random.sample(sorted(tensors), 2):
        raw = np.frombuffer(
            bytearray(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()), np.uint8
        )
        raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
        tensors[name] = torch.from_numpy(raw).view(tensors[name].dtype).reshape(tensors[name].shape)
    return seal(json.dumps(header), tensors)


DAMAGE: tuple[Mutation, ...] = (
    flip_bits, overwrite, truncate, insert, delete, move, header_length,
    outer_field, outer_structure, outer_flood,
)  # fmt: skip
LIES: tuple[Mutation, ...] = (
    sealed_field,
    sealed_field,
    sealed_text,
    sealed_tensors,
    sealed_tensors,
    sealed_bits,
)
