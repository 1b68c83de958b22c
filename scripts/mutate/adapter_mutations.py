"""Ways to change the header or the tensors of an adapter file, each drawn from a random state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any

from scripts.mutate.adapter_bases import Base
from scripts.mutate.adapter_values import ODD, RAW_NUMBERS
from scripts.mutate.header_places import RAW, get, places, put
from scripts.mutate.tensor_mutations import Header, Tensors, tensor_names, tensor_shape, tensor_values

Mutation = Callable[[Header, Tensors, Random, list[Base]], str]


def any_value(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Any place of the header gets any odd value."""
    return put(header, random.choice(list(places(header))), copy.deepcopy(random.choice(ODD)))


def raw_number(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Any place of the header gets what JSON parsers read differently."""
    return put(header, random.choice(list(places(header))), RAW + random.choice(RAW_NUMBERS))


def nudged(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """A number a little larger or smaller, a text a little other."""
    leaves = [p for p in places(header) if not isinstance(get(header, p), (dict, list))]
    path = random.choice(leaves)
    value = get(header, path)
    if isinstance(value, bool):
        return put(header, path, not value)
    if isinstance(value, int):
        return put(header, path, value + random.choice([-1, 1, 2, -value, value, 8, 32]))
    if isinstance(value, float):
        return put(header, path, random.choice([value * 1.01, -value, value + 1, value / 2, 1.0]))
    text = str(value)
    return put(
        header, path, random.choice([text + " ", text.upper(), text[:-1], " " + text, text + "\u0301"])
    )


def key_changed(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """A field left out, added, renamed or given twice."""
    path = random.choice([p for p in places(header) if isinstance(p[-1], str)])
    place, key = (get(header, path[:-1]) if len(path) > 1 else header), path[-1]
    way = random.choice(["drop", "add", "rename", "twice", "twice, other"])
    if way == "drop":
        del place[key]
    elif way == "add":
        place[random.choice(["extra", key + "_", key.upper(), "", "__class__", "é", "format "])] = 1
    elif way == "rename":
        place[random.choice([key + " ", key.upper(), "\u0435" + key[1:], key + "\u0000"])] = place.pop(key)
    else:
        value = place[key] if way == "twice" else random.choice(ODD)
        items = [(RAW + key, copy.deepcopy(value)), *place.items()]
        place.clear()
        place.update(items)
    return f"{'.'.join(map(str, path))}: {way}"


def class_list(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Other names of classes; the right number of them, or not."""
    names = list(header["classes"])
    at = random.randrange(len(names))
    way = random.randrange(9)
    if way == 0:
        random.shuffle(names)
    elif way == 1:
        names[at] = names[at - 1]
    elif way == 2:
        names[at - 1], names[at] = "caf\u00e9", "cafe\u0301"
    elif way == 3:
        names[at] = random.choice(
            ["a\u200cb", "a\u00a0b", "\u3000", " ", "a\u2028b", "a\x85b", "\ufeffa", "\u00ad"]
        )
    elif way == 4:
        names[at] = random.choice(
            ["x" * 500, "x" * 501, "\u4f60" * 500, "\u202egnp", "\u2066a", "<b>a</b>", "=1+1"]
        )
    elif way == 5:
        names = names[:-1] if random.random() < 0.5 else [*names, "more"]
    elif way == 6:
        names[at] = random.choice([1, None, ["cat"], {"a": 1}, True, 1.5])
    elif way == 7:
        names[at] = random.choice(
            [names[at] + " ", names[at].upper(), names[at - 1] + " ", "\u0441at", "CAT"]
        )
    else:
        names = [random.choice(["a", "ab", "b"]) + str(n) for n in range(len(names))]
    header["classes"] = names
    return f"classes, way {way}"


def preprocessing(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Values of the preprocessing that may well be meant, and some that cannot be."""
    field, values = random.choice(
        [
            (
                "image_size",
                [[32, 32], [64, 64], [4096, 4096], [24, 32], [8, 8], [32], [32.0, 32], [40, 40], 32],
            ),
            ("crop_pct", [1.0, 0.5, 0.01, 1e-9, 0, 1, 1.01, 0.875, -1, True, "1", 0.004, 0.0079]),
            (
                "mean",
                [[0, 0, 0], [1e15, 0, 0], [-5.5, 1, 2], [0.5, 0.5], [1e-300] * 3, [2**60] * 3, [9e15] * 3],
            ),
            ("std", [[1, 1, 1], [1e-30] * 3, [1e-320] * 3, [0, 1, 1], [-1, 1, 1], [1e15] * 3, [1e-45, 1, 1]]),
            (
                "interpolation",
                ["nearest", "bilinear", "box", "hamming", "lanczos", "Bicubic", "random", "", 3],
            ),
            ("crop_mode", ["center", "squash", "border", "random", "", None, "CENTER"]),
        ]
    )
    return put(header, ("preprocessing", field), random.choice(values))


def metric(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Figures of the training: names and values."""
    name = random.choice(
        ["val_accuracy", "val_loss", "epoch", "train_accuracy", "x", "", "a b", "é", "x" * 201]
    )
    values = [
        0,
        1,
        0.5,
        1.5,
        -0.1,
        -1,
        10**400,
        1e299,
        1e300,
        True,
        "0.9",
        None,
        [0.9],
        RAW + "NaN",
        RAW + "1e999",
    ]
    return put(header, ("metrics", name), random.choice(values))


def counts(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """What the header counts: prompts, segments, elements before pruning, blocks."""
    field = random.choice(["visual_before", "segments", "num_visual", "num_kv", "blocks", "first_block"])
    blocks = int(header["blocks"])
    one = [0, 1, 2, 3, 4, 5, 8, 32, 128, 10**9, 2**63, -1, 2.0, True]
    if field in ("blocks", "first_block"):
        return put(header, (field,) if field == "blocks" else ("prompts", field), random.choice(one))
    value: Any = [random.choice(one) for _ in range(random.choice([blocks, blocks, blocks - 1, blocks + 1]))]
    old = header[field] if field in header else header["prompts"][field]
    if isinstance(old, list) and random.random() < 0.5:
        value = [number + (0 if random.random() < 0.6 else random.choice([-1, 1, 8])) for number in old]
    if field.startswith("num_"):
        return put(header, ("prompts", field), random.choice([value, random.choice(one), tuple(value)]))
    return put(header, (field,), value)


def method(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """Another method, other options, other prompts than the tensors were made by."""
    way = random.randrange(4)
    if way == 0:
        names = ["e2vpt", "vpt-deep", "vpt-shallow", "kv", "linear", "full", "partial", "mlp", "bias", "lora"]
        return put(
            header, ("method",), random.choice([*names, "layernorm", "adapter", "sidetune", "oft", "loha"])
        )
    if way == 1:
        field = random.choice(list(header["options"]))
        values = [
            "none",
            "bias",
            "norm",
            "auto",
            1,
            2,
            3,
            8,
            256,
            257,
            1024,
            10**6,
            "houlsby",
            "pfeiffer",
            1.0,
        ]
        return put(header, ("options", field), random.choice(values))
    if way == 2:
        field = random.choice(
            ["share_kv", "visual_depth", "kv_depth", "pool_prompts", "dropout", "init", "kv_init"]
        )
        values = [
            True,
            False,
            "deep",
            "shallow",
            0.5,
            0,
            0.999,
            1.0,
            "patch",
            "normal",
            "zeros",
            "uniform",
            "kaiming",
        ]
        return put(header, ("prompts", field), random.choice(values))
    field = random.choice(["layout", "precision", "pool", "fingerprint", "backbone"])
    values = {
        "layout": ["strided", "contiguous", "", "Strided"],
        "precision": ["fp16", "fp32", "bf16", ""],
        "pool": ["token", "avg", "map", ""],
        "fingerprint": ["0" * 64, header["fingerprint"].upper(), header["fingerprint"][:63], ""],
        "backbone": [
            *(
                "",
                "demo",
                "vit_7b_patch16_dinov3",
                "eva02_enormous_patch14_clip_224",
                "hf-hub:evil/x",
                "resnet50",
            ),
            *(
                "swin_base_patch4_window12_384",
                "vit_huge_patch14_224",
                "hf-hub:timm/x",
                "vit_base",
                "a:b",
                "../x",
            ),
        ],
    }[field]
    return put(header, (field,), random.choice(values))


def spliced(header: Header, tensors: Tensors, random: Random, bases: list[Base]) -> str:
    """A field, or some tensors, of another file."""
    other = random.choice(bases)
    if random.random() < 0.6:
        field = random.choice(list(other.header))
        header[field] = copy.deepcopy(other.header[field])
        return f"{field} of {other.name}"
    start = random.choice(["head.", "blocks.", "keep", "tuned.", "blocks.0."])
    tensors.update({name: t.clone() for name, t in other.tensors.items() if name.startswith(start)})
    return f"tensors {start}* of {other.name}"


MUTATIONS: tuple[Mutation, ...] = (
    *(any_value, raw_number, nudged, key_changed, class_list, preprocessing, metric, counts, method, spliced),
    *(tensor_values, tensor_values, tensor_values, tensor_shape, tensor_names),
)
