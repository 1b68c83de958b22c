"""Ways to change the tensors of an adapter file, each drawn from a random state."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor

from scripts.mutate.adapter_bases import Base
from scripts.mutate.adapter_values import DTYPES, NAMES

Header = dict[str, Any]
Tensors = dict[str, Tensor]


def tensor_values(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Other numbers in a tensor, of the same kind and shape."""
    name = random.choice(list(tensors))
    tensor = tensors[name] = tensors[name].clone()
    flat = tensor.view(-1)
    at = random.randrange(max(1, len(flat)))
    if tensor.dtype == torch.uint8:
        flat[at] ^= 1 << random.randrange(8)
        return f"{name}: a bit"
    if not tensor.is_floating_point() or not len(flat):
        return f"{name}: nothing"
    ways: dict[str, Callable[[], Any]] = {
        "one": lambda: flat[at].add_(1),
        "all": lambda: flat.mul_(-1.5),
        "nan": lambda: flat[at].fill_(float("nan")),
        "inf": lambda: flat[at].fill_(-float("inf")),
        "huge": lambda: flat.fill_(torch.finfo(tensor.dtype).max),
        "one huge": lambda: flat[at].fill_(torch.finfo(tensor.dtype).max),
        "large": lambda: flat.mul_(1e4),
        "zeros": lambda: flat.zero_(),
        "negative zero": lambda: flat[at].fill_(-0.0),
        "tiny": lambda: flat.fill_(torch.finfo(tensor.dtype).tiny / 4),
    }
    way = random.choice(list(ways))
    ways[way]()
    return f"{name}: {way}"


def tensor_shape(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """A tensor of another shape or kind of number."""
    name = random.choice(list(tensors))
    tensor = tensors[name]
    ways: dict[str, Callable[[], Tensor]] = {
        "transposed": lambda: tensor.transpose(0, -1) if tensor.dim() else tensor,
        "flat": lambda: tensor.reshape(-1),
        "one more dimension": lambda: tensor[None],
        "dimension at the end": lambda: tensor[..., None],
        "a row less": lambda: tensor[:-1] if tensor.dim() else tensor,
        "a row more": lambda: torch.cat([tensor, tensor[:1]]) if tensor.dim() else tensor,
        "a column less": lambda: tensor[..., :-1] if tensor.dim() else tensor,
        "empty": lambda: tensor[:0] if tensor.dim() else tensor,
        "zero-dimensional": lambda: tensor.reshape(-1)[:1].sum() if tensor.numel() else tensor,
        "long": lambda: tensor.reshape(-1).repeat(40),
    }
    if random.random() < 0.5:
        dtype = random.choice(DTYPES)
        tensors[name] = tensor.to(dtype)
        return f"{name}: {dtype}"
    way = random.choice(list(ways))
    tensors[name] = ways[way]().contiguous()
    return f"{name}: {way}"


def tensor_names(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Tensors left out, added, renamed or exchanged."""
    name, way = random.choice(list(tensors)), random.choice(["drop", "add", "rename", "exchange", "all fp16"])
    if way == "drop":
        del tensors[name]
    elif way == "add":
        tensors[random.choice(NAMES)] = torch.randn(
            random.choice([(), (1,), (4, 32), (2, 3, 16), (0,), (32,)])
        )
    elif way == "rename":
        tensors[random.choice(NAMES)] = tensors.pop(name)
    elif way == "exchange":
        other = random.choice(list(tensors))
        tensors[name], tensors[other] = tensors[other], tensors[name]
    else:
        tensors.update({n: t.half() for n, t in tensors.items() if n != "keep"})
        header["precision"] = "fp16"
    return f"{name}: {way}"
