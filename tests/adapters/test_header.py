"""What a header may say: anything sensible comes back equal, anything else is named."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.refusals import not_refused
from torch import Tensor

from e2vpt.adapters.header import parse_header
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.config.fields import to_dict
from e2vpt.data.preprocess import Preprocessing
from e2vpt.files.container import read_container, write_container

BLOCKS, HEADS, WIDTH = 2, 2, 6
PROMPTS = PromptConfig(num_visual=(3, 2), num_kv=2, share_kv=False)
OPTIONS = MethodConfig(beside="bias", lora_rank=4)
PREPROCESSING = Preprocessing(image_size=(32, 48), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 1))

names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
words = st.from_regex(r"[A-Za-z0-9_.+\-]{0,20}", fullmatch=True)
numbers = st.floats(-1e299, 1e299) | st.integers(-(10**200), 10**200)
sides = st.integers(8, 4096)
three = st.tuples(*[st.floats(-10, 10)] * 3)
positive = st.tuples(*[st.floats(1e-3, 10)] * 3)
preprocessings = st.builds(
    Preprocessing,
    image_size=st.tuples(sides, sides),
    mean=three,
    std=positive,
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]),
    crop_pct=st.floats(0.5, 1.0),
    crop_mode=st.sampled_from(["center", "squash", "border"]),
) | st.builds(
    Preprocessing,
    image_size=st.tuples(sides, sides),
    mean=three,
    std=positive,
    interpolation=st.just("tensorflow-bilinear"),
    crop_mode=st.just("squash"),
)


def tensors(classes: int = 3) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {"head.weight": torch.ones(classes, WIDTH), "head.bias": torch.zeros(classes)}
    for block, count in enumerate((3, 2)):
        found[f"blocks.{block}.visual"] = torch.ones(count, WIDTH)
        found[f"blocks.{block}.key"] = torch.ones(HEADS, 2, WIDTH // HEADS)
        found[f"blocks.{block}.value"] = torch.zeros(HEADS, 2, WIDTH // HEADS)
    # The first prompt has lost one of its two segments.
    found["keep"] = torch.tensor([0b10111100, 0b11000000], dtype=torch.uint8)
    found["blocks.0.visual"], found["blocks.1.visual"] = torch.ones(5 * WIDTH // 2), torch.ones(2 * WIDTH)
    return found


def header() -> dict[str, Any]:
    return {
        "format": 1,
        "method": "e2vpt",
        "backbone": "vit_base_patch16_224.augreg_in21k",
        "fingerprint": "ab" * 32,
        "pool": "token",
        "blocks": BLOCKS,
        "visual_before": [4 * WIDTH, 2 * WIDTH],
        "layout": "contiguous",
        "segments": [2, 1],
        "classes": ["cat", "dog", "Katze (Fell, grau)"],
        "preprocessing": PREPROCESSING.to_dict(),
        "prompts": to_dict(PROMPTS),
        "options": to_dict(OPTIONS),
        "metrics": {"val_accuracy": 0.5},
        "versions": {"torch": "2.14.1+cu130"},
        "precision": "fp32",
    }


def test_every_field_is_what_the_header_says() -> None:
    info = parse_header(header(), tensors(), 1234)
    assert (info.method, info.backbone, info.pool, info.precision) == (
        "e2vpt",
        "vit_base_patch16_224.augreg_in21k",
        "token",
        "fp32",
    )
    assert info.fingerprint == "ab" * 32 and info.bytes == 1234
    assert info.classes == ("cat", "dog", "Katze (Fell, grau)")
    assert info.preprocessing == PREPROCESSING and info.prompts == PROMPTS
    assert info.metrics == {"val_accuracy": 0.5} and info.versions == {"torch": "2.14.1+cu130"}
    assert info.num_visual == (3, 2) and info.num_kv == (2, 2)
    assert info.num_tuned == 27 + 2 * 2 * 2 * WIDTH  # visual; keys and values of two blocks
    assert info.visual_before == (24, 12) and info.layout == "contiguous" and info.segments == (2, 1)
    assert info.num_head == 3 * WIDTH + 3
    assert info.visual_kept == 27 / 36


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    classes=st.lists(names, min_size=1, max_size=6, unique=True),
    metrics=st.dictionaries(words, numbers, max_size=4),
    preprocessing=preprocessings,
    versions=st.dictionaries(words, words, max_size=3),
)
def test_any_sensible_header_comes_back_from_a_file(
    tmp_path: Path,
    classes: list[str],
    metrics: dict[str, float],
    preprocessing: Preprocessing,
    versions: dict[str, str],
) -> None:
    changes = {"classes": classes, "metrics": metrics, "versions": versions}
    written = header() | changes | {"preprocessing": preprocessing.to_dict()}
    write_container(tmp_path / "f", written, tensors(len(classes)))
    read, found, size = read_container(tmp_path / "f")
    info = parse_header(read, found, size)
    assert info.classes == tuple(classes) and info.versions == versions
    assert info.metrics == {name: float(value) for name, value in metrics.items()}
    assert info.preprocessing == preprocessing


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(field=st.sampled_from(sorted(header())), value=json_values)
def test_any_value_anywhere_is_understood_or_refused(field: str, value: Any) -> None:
    try:
        info = parse_header(header() | {field: value}, tensors(), 1)
    except (KeyError, TypeError, ValueError, OverflowError):
        return
    assert all(name.isprintable() for name in info.classes)
    assert all(math.isfinite(number) for number in info.metrics.values())


@settings(max_examples=200, deadline=None)
@given(
    where=st.sampled_from([("prompts", name) for name in to_dict(PROMPTS)])
    | st.sampled_from([("preprocessing", name) for name in PREPROCESSING.to_dict()])
    | st.tuples(st.sampled_from(["metrics", "versions", "prompts", "preprocessing"]), st.text(max_size=5)),
    value=json_values,
)
def test_any_value_in_any_part_is_understood_or_refused(where: tuple[str, str], value: Any) -> None:
    changed = copy.deepcopy(header())
    changed[where[0]][where[1]] = value
    try:
        info = parse_header(changed, tensors(), 1)
    except (KeyError, TypeError, ValueError, OverflowError):
        return
    assert (info.num_visual, info.num_kv) == ((3, 2), (2, 2))


def test_every_field_is_needed() -> None:
    def without(field: str) -> dict[str, Any]:
        return {name: value for name, value in header().items() if name != field}

    needed = [name for name in header() if name != "format"]
    cases = [(partial(parse_header, without(field), tensors(), 1), field) for field in needed]
    assert not_refused(cases, KeyError) == []


BAD_FIELDS: list[tuple[str, Any, str]] = [
    ("classes", "cat", "classes is a str; expected a list of names"),
    ("classes", [], "classes: there are none"),
    ("classes", ["a", "b", "a"], "classes: two classes have the same name"),
    ("classes", ["a", "b", "\x1b[31mred"], r"classes: '\\x1b\[31mred' is not a printable name"),
    ("classes", ["a", "b", "left\u202eright"], "is not a printable name"),
    ("classes", ["a", "b", "\ud800"], "is not a printable name"),
    ("classes", ["a", "b", "two\nlines"], "is not a printable name"),
    ("classes", ["a", "b", ""], "'' is not a printable name of 1 to 500 characters"),
    ("classes", ["a", "b", "x" * 501], "is not a printable name of 1 to 500 characters"),
    ("classes", ["a", "b", ["c"]], r"\['c'\] is not a printable name"),
    ("classes", ["a", "b"], r"head.weight is torch.float32 \[3, 6\]; expected torch.float32 \[2, 'any'\]"),
    ("blocks", 0, "blocks is 0; expected a whole number from 1 to 1000"),
    ("blocks", 10**9, "blocks is 1000000000; expected"),
    ("blocks", True, "blocks is True"),
    ("blocks", 3, "num_visual has 2 counts; the backbone has 3 blocks"),
    ("precision", "int8", "precision is 'int8'; expected one of fp32, fp16"),
    ("precision", ["fp32"], r"precision is \['fp32'\]"),
    ("precision", "fp16", "is torch.float32 .*; expected torch.float16"),
    ("method", "a b", "method is 'a b'; expected one of e2vpt, vpt-deep"),
    ("method", None, "method is None; expected one of e2vpt"),
    ("options", None, "options is NoneType; expected an object"),
    ("options", to_dict(OPTIONS) | {"lora_rank": 257}, "lora_rank is 257; the most is 256"),
    ("backbone", "/etc/passwd", "'/etc/passwd' was found where letters"),
    ("backbone", "../weights", "was found where letters"),
    ("backbone", "vit\nbase", r"'vit\\nbase' was found where letters"),
    ("backbone", "vit\n", "was found where letters"),
    ("backbone", "vit²", "was found where letters"),
    ("backbone", "hf-hub:a/b/c", "was found where letters"),
    ("backbone", "hf-hub:a/b\n", "was found where letters"),
    ("backbone", "https://evil/x", "was found where letters"),
    ("backbone", "v" * 201, "was found where letters"),
    ("pool", 3, "3 was found where letters"),
    ("fingerprint", "é", "expected 64 digits in hex"),
    ("metrics", {"a": math.nan}, "a metric is nan; expected a finite number"),
    ("metrics", {"a": math.inf}, "a metric is inf"),
    ("metrics", {"a": 10**400}, "a metric is 1000.*; expected a finite number"),
    ("metrics", {"a": True}, "a metric is True"),
    ("metrics", {"a": "1"}, "a metric is '1'"),
    ("metrics", {"a b": 1}, "'a b' was found where letters"),
    ("metrics", [], "metrics is list; expected an object"),
    ("versions", {"torch": 2}, "2 was found where letters"),
    ("versions", None, "versions is NoneType; expected an object"),
    ("prompts", [], "prompts is list; expected an object"),
    ("prompts", {"num_prompts": 3}, "PromptConfig has no field 'num_prompts'"),
    ("prompts", to_dict(PROMPTS) | {"num_visual": 10**9}, "num_visual is 1000000000; the most is 10000"),
    (
        "prompts",
        to_dict(PROMPTS) | {"num_kv": 10**9},
        "num_kv is 1000000000; the most is 10000",
    ),
    ("prompts", to_dict(PROMPTS) | {"num_visual": [3, -1]}, "num_visual is -1; expected a whole number"),
    ("prompts", to_dict(PROMPTS) | {"num_visual": [3, True]}, "num_visual is True"),
    ("prompts", to_dict(PROMPTS) | {"num_visual": [[3], [2]]}, "num_visual is "),
    ("prompts", to_dict(PROMPTS) | {"num_visual": 0}, "promise other tensors: missing .*, unknown .*visual"),
    ("prompts", to_dict(PROMPTS) | {"share_kv": True}, r"unknown \['blocks.0.value', 'blocks.1.value'\]"),
    ("prompts", to_dict(PROMPTS) | {"share_kv": "no"}, "share_kv is 'no'; expected bool"),
    ("prompts", to_dict(PROMPTS) | {"visual_depth": "shallow"}, r"unknown \['blocks.1.visual'\]"),
    ("prompts", to_dict(PROMPTS) | {"init": "eval"}, "init is 'eval'; expected one of"),
    ("prompts", to_dict(PROMPTS) | {"dropout": math.nan}, "dropout is nan"),
    (
        "preprocessing",
        PREPROCESSING.to_dict() | {"image_size": [10**9] * 2},
        "image_size is .*sides from 8 to",
    ),
    ("preprocessing", PREPROCESSING.to_dict() | {"crop_pct": 1e-9}, "crop_pct is 1e-09; expected image_size"),
    ("preprocessing", PREPROCESSING.to_dict() | {"std": [0, 1, 1]}, "std is .*; expected positive"),
    ("preprocessing", PREPROCESSING.to_dict() | {"x": 1}, "Preprocessing has .*; expected exactly"),
    ("preprocessing", {}, "Preprocessing has no fields"),
]


def test_fields_that_cannot_be() -> None:
    cases = [
        (partial(parse_header, header() | {field: value}, tensors(), 1), message)
        for field, value, message in BAD_FIELDS
    ]
    assert not_refused(cases, ValueError, TypeError) == []


def test_numbers_too_large_for_a_float() -> None:
    with pytest.raises((ValueError, OverflowError)):
        parse_header(header() | {"prompts": to_dict(PROMPTS) | {"dropout": 10**400}}, tensors(), 1)


def test_backbone_names_that_save_adapter_can_meet() -> None:
    for name in ("", "demo", "vit-b16-sup21k", "hf-hub:timm/vit_tiny.in21k", "hf-hub:me/x@refs/pr/1"):
        assert parse_header(header() | {"backbone": name}, tensors(), 1).backbone == name
    assert parse_header(header() | {"backbone": "hf-hub:gpt2"}, tensors(), 1).backbone == "hf-hub:gpt2"


BAD_TENSORS: list[tuple[str, Tensor | None, str]] = [
    ("head.bias", None, r"promise other tensors: missing \['head.bias'\], unknown \[\]"),
    ("blocks.1.visual", None, r"missing \['blocks.1.visual'\]"),
    ("blocks.1.value", None, r"missing \['blocks.1.value'\]"),
    ("blocks.2.visual", torch.ones(1, WIDTH), r"unknown \['blocks.2.visual'\]"),
    ("head.\x1b[31m", torch.ones(1), r"unknown \['head.\\x1b\[31m'\]"),
    (
        "blocks.1.visual",
        torch.ones(4, WIDTH),
        r"blocks.1.visual is torch.float32 \[4, 6\]; expected .*\[2, 'any",
    ),
    ("blocks.1.visual", torch.ones(2 * WIDTH)[None, None], r"blocks.1.visual is torch.float32 \[1, 1, 12\]"),
    ("blocks.0.visual", torch.ones(14), "blocks.0.visual has 14 elements for 5 of 6 segments"),
    ("keep", torch.tensor([0b10000000, 192], dtype=torch.uint8), "15 elements for 1 of 6 segments"),
    ("keep", torch.tensor([0, 192], dtype=torch.uint8), "15 elements for 0 of 6 segments"),
    ("keep", torch.tensor([0b10111101, 192], dtype=torch.uint8), "block 0 has bits beyond its 6 segments"),
    ("keep", torch.tensor([188], dtype=torch.uint8), r"tensor keep has shape \[1\]; expected \[2\]"),
    ("keep", torch.ones(2), r"keep is torch.float32 \[2\]; expected torch.uint8"),
    ("keep", None, r"blocks.0.visual is torch.float32 \[15\]; expected torch.float32 \[3, 'any'\]"),
    ("blocks.0.key", torch.ones(2, 3, 3), r"blocks.0.key is .*; expected torch.float32 \['any', 2, 'any'\]"),
    ("blocks.1.visual", torch.ones(2 * WIDTH).half(), "is torch.float16"),
    ("head.weight", torch.full((3, WIDTH), torch.nan), "head.weight has values that are not finite"),
    ("blocks.1.key", torch.full((2, 2, 3), -torch.inf), "blocks.1.key has values that are not finite"),
]


def test_tensors_other_than_promised() -> None:
    def changed(name: str, tensor: Tensor | None) -> dict[str, Tensor]:
        return {key: value for key, value in (tensors() | {name: tensor}).items() if value is not None}

    cases = [
        (partial(parse_header, header(), changed(name, tensor), 1), message)
        for name, tensor, message in BAD_TENSORS
    ]
    assert not_refused(cases, ValueError) == []
