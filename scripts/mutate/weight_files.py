"""Weights files of every kind as bytes, beside the state that they have to give."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

State = dict[str, Tensor]
Made = tuple[str, bytes, State | None]
"""A file's name, its bytes, and the state it has to give: None where it has to be refused or read afresh."""

PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.", "module.backbone.", "base_encoder.", "encoder.")
_CONTAINERS = ("state_dict", "model", "model_ema", "state_dict_ema", "teacher", "net")


def _pth(content: Any, legacy: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def _file(state: State, random: Random, wanted: State | None) -> Made:
    """The state in a format drawn."""
    kind = random.choice(["safetensors", "pth", "legacy", "npz", "bin", "pth.tar"])
    if kind == "safetensors":
        plain = {name: t.contiguous().clone() for name, t in state.items()}
        return "w.safetensors", safetensors.torch.save(plain), wanted
    if kind == "npz":
        out = io.BytesIO()
        arrays = {n: t.float().numpy() if t.dtype == torch.bfloat16 else t.numpy() for n, t in state.items()}
        random.choice([np.savez, np.savez_compressed])(out, **arrays)  # type: ignore[operator]
        return "w.npz", out.getvalue(), wanted
    return f"w.{'pth' if kind == 'legacy' else kind}", _pth(OrderedDict(state), kind == "legacy"), wanted


def whole(state: State, random: Random, is_demo: bool) -> Made:
    """Whole, in any format, float32 to float16, with a head and with what Swin's files store"""
    dtype = random.choice([torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16])
    made = {name: t.to(dtype) for name, t in state.items()}
    wanted = {name: t.float() for name, t in made.items()}
    if random.random() < 0.5:
        made |= {"head.weight": torch.randn(9, 4), "head.bias": torch.randn(9)}
    if not is_demo:
        made["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 4, 4)
        made["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
    return _file(made, random, wanted)


def wrapped(state: State, random: Random, is_demo: bool) -> Made:
    """Prefixes and dictionaries around the state, beside numbers, arguments and optimizers"""
    prefix = random.choice(["", *PREFIXES])
    content: Any = {prefix + name: t for name, t in state.items()}
    for _ in range(random.choice([0, 1, 1, 2])):
        content = {random.choice(_CONTAINERS): content, "epoch": 3, "optimizer": {"state": {}}}
    known = prefix != "encoder."
    outer = json.dumps(list(content))
    known = known and not any(word in outer for word in ("teacher", "net"))
    return "w.pth", _pth(content, random.random() < 0.3), state if known else None


def damaged(state: State, random: Random, is_demo: bool) -> Made:
    """Cut off, bytes changed, put in or taken out"""
    name, data, _ = _file(state, random, None)
    changed, at = bytearray(data), random.randrange(len(data))
    way = random.choice(["cut", "head", "bits", "tail", "nothing"])
    if way == "cut":
        changed = changed[: random.choice([at, at % 400, len(data) - 1 - at % 400])]
    elif way == "nothing":
        changed = bytearray(random.choice([b"", b"PK\x03\x04", bytes(4000), b"\x80\x02}q\x00.", b"hello"]))
    else:
        for _ in range(random.choice([1, 5])):
            place = {"head": at % 600, "bits": at, "tail": len(data) - 1 - at % 900}[way]
            changed[place] ^= 1 << random.randrange(8)
            at = random.randrange(len(data))
    return name, bytes(changed), None


def shaped(state: State, random: Random, is_demo: bool) -> Made:
    """A tensor of another shape or name, missing, left over, or given twice"""
    name = random.choice([n for n in state if n != "patch_embed.proj.weight"])  # timm takes a flat one
    way = random.choice(["shape", "drop", "add", "rename", "flat", "empty", "grid"])
    if way == "shape" and state[name].dim() == 2 and len(set(state[name].shape)) == 1:
        way = "grid"  # A square one turned around is a whole file too.
    elif way == "shape":
        state[name] = (
            state[name].repeat(2)[..., None] if state[name].dim() == 1 else state[name].transpose(0, -1)
        )
    elif way == "drop":
        del state[name]
    elif way == "add":
        state[random.choice(["extra", "blocks.9.attn.qkv.weight", "\x1b[31m", "pos_embed2"])] = torch.ones(3)
    elif way == "rename":
        state[random.choice([name + " ", name.upper(), "\u202e" + name])] = state.pop(name)
    elif way == "flat":
        state[name] = state[name].reshape(-1, 1)
    elif way == "empty":
        state[name] = state[name][:0]
    elif "pos_embed" in state:
        state["pos_embed"] = torch.randn(
            1, random.choice([50, 16, 2, 1, 10**5]), state["pos_embed"].shape[-1]
        )
    return _file(
        {n: t.contiguous() for n, t in state.items()},
        random,
        {"nothing": torch.ones(1)} if way != "grid" else None,
    )


def valued(state: State, random: Random, is_demo: bool) -> Made:
    """Numbers that are none, numbers of odd kinds"""
    name = random.choice(list(state))
    way = random.choice(["nan", "inf", "int64", "bool", "float8", "complex", "uint8", "all int8"])
    if way in ("nan", "inf"):
        state[name].view(-1)[0] = float(way)
    elif way == "all int8":
        state = {n: t.to(torch.int8) for n, t in state.items()}
    else:
        kinds = {"float8": torch.float8_e4m3fn, "complex": torch.complex64}
        state[name] = state[name].to(kinds.get(way) or getattr(torch, way))
    refused = {"nothing": torch.ones(1)}
    if way in ("float8", "complex"):
        return "w.pth", _pth(state), refused
    return _file(state, random, refused)


def odd_tensors(state: State, random: Random, is_demo: bool) -> Made:
    """Sparse, quantized, meta, expanded, nested, overlapping or subclassed tensors"""
    name = next(n for n in state if state[n].dim() == 2)
    long = "pos_embed" if is_demo else "patch_embed.proj.weight"
    way = random.choice(
        ["sparse", "csr", "quantized", "meta", "expanded", "nested", "overlap", "parameter", "strided"]
    )
    wanted: State | None = {"nothing": torch.ones(1)}
    content: dict[str, Any] = dict(state)
    if way == "sparse":
        content[name] = state[name].to_sparse()
    elif way == "csr":
        content[name] = state[name].to_sparse_csr()
    elif way == "quantized":
        content[name] = torch.quantize_per_tensor(state[name], 0.1, 0, torch.qint8)
    elif way == "meta":
        content = (
            {n: t.to("meta") for n, t in state.items()}
            if random.random() < 0.5
            else {**state, name: state[name].to("meta")}
        )
    elif way == "expanded":
        content[long] = torch.zeros(1).expand(1, random.choice([65, 10**6, 10**9]), 128)
    elif way == "nested":
        content[name] = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    elif way == "overlap":
        content[name] = torch.as_strided(torch.ones(9), tuple(state[name].shape), (0, 0))
    elif way == "parameter":
        content, wanted = {n: nn.Parameter(t) for n, t in state.items()}, state
    else:
        content, wanted = (
            {n: t.flip(-1).flip(-1).t().contiguous().t() if t.dim() == 2 else t for n, t in state.items()},
            state,
        )
    return "w.pth", _pth(content, random.random() < 0.3), wanted


class _Runs:
    def __reduce__(self) -> Any:
        return print, ("run",)


def content(state: State, random: Random, is_demo: bool) -> Made:
    """Code to run, dictionaries in themselves, things that are no tensors"""
    circle: dict[str, Any] = {}
    circle["model"] = circle
    other: Any = random.choice(
        [
            *(
                _Runs(),
                circle,
                [1, 2],
                None,
                3,
                "x",
                {},
                {"model": {}},
                list(state.values()),
                {"a": 1},
                torch.ones(3),
            ),
            *(
                {**state, "extra": _Runs()},
                {1: torch.ones(3)},
                {**state, "epoch": 3},
                {"model": list(state.items())},
            ),
            *(
                {"state_dict": state, "model": {"a": torch.ones(1)}},
                {"model": {"model": {"model": {"model": state}}}},
            ),
        ]
    )
    return "w.pth", _pth(other, random.random() < 0.3), None


def archives(state: State, random: Random, is_demo: bool) -> Made:
    """npz files whose arrays are objects, texts, huge by their heads, packed to nothing, of other bytes"""
    name, out = random.choice(list(state)), io.BytesIO()
    way = random.choice(
        ["object", "text", "huge head", "packed", "big endian", "order", "names", "twice", "dates"]
    )
    arrays: dict[str, Any] = {n: t.numpy() for n, t in state.items()}
    wanted: State | None = {"nothing": torch.ones(1)}
    if way == "object":
        arrays[name] = np.array([{"a": 1}], dtype=object)
    elif way == "text":
        arrays[name] = np.array(["x"])
    elif way == "dates":
        arrays[name] = np.array(["2026-01-01"], dtype="datetime64[D]")
    elif way == "packed":
        arrays[name] = np.zeros(400_000_000, dtype=np.uint8)
    elif way == "big endian":
        arrays, wanted = {n: a.astype(">f4") for n, a in arrays.items()}, state
    elif way == "order":
        arrays, wanted = {n: np.asfortranarray(a) for n, a in arrays.items()}, state
    elif way == "names":
        arrays = {"\x1b[31m" + n: a for n, a in arrays.items()}
    np.savez_compressed(out, **arrays)
    if way in ("huge head", "twice"):
        with zipfile.ZipFile(out, "a") as archive:
            head = repr({"descr": "<f4", "fortran_order": False, "shape": (10**12,)}).ljust(117) + "\n"
            data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode()
            archive.writestr("extra.npy" if way == "huge head" else f"{name}.npy", data)
    return "w.npz", out.getvalue(), wanted


def heads(state: State, random: Random, is_demo: bool) -> Made:
    """safetensors whose header is huge, lies, names a tensor twice, or lets tensors overlap"""
    data = safetensors.torch.save({n: t.contiguous() for n, t in state.items()})
    (length,) = struct.unpack("<Q", data[:8])
    outer, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = random.choice([n for n in outer if n != "__metadata__"])
    way = random.choice(["length", "shape", "dtype", "overlap", "twice", "suffix", "metadata"])
    if way == "length":
        return (
            "w.safetensors",
            struct.pack("<Q", random.choice([0, 2**40, 2**63, length - 1])) + data[8:],
            None,
        )
    if way == "shape":
        outer[name]["shape"] = [10**9, 10**9]
    elif way == "dtype":
        outer[name]["dtype"] = random.choice(["F64", "I32", "F8_E4M3", "X", None])
    elif way == "overlap":
        outer[name]["data_offsets"] = outer[random.choice(list(outer))].get("data_offsets")
    elif way == "metadata":
        outer["__metadata__"] = {"x": "y" * 1_000_000}
    text = json.dumps(outer)
    if way == "twice":
        text = text[:-1] + f', "{name}": {json.dumps(outer[name])}}}'
    made = struct.pack("<Q", len(text)) + text.encode() + body
    return random.choice(["w.pth", "w.npz", "w.onnx"]) if way == "suffix" else "w.safetensors", made, None


MAKERS: tuple[Callable[[State, Random, bool], Made], ...] = (
    *(whole, whole, whole, wrapped, wrapped, damaged, damaged, shaped, valued, odd_tensors, odd_tensors),
    *(content, archives, archives, heads),
)
