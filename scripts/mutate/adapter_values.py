"""Values, numbers, names and kinds of numbers that a header or a tensor should not have."""

from __future__ import annotations

from typing import Any

import torch

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 1000, 10**6, 2**31, 2**53, 2**63, -(2**63), 0.0, -0.0, 0.5),
    *(1e-320, 1e308, -1e308, 1.0, 3.0, "", " ", "0", "1", "none", "nan", "NaN", "deep", "shallow", "patch"),
    *("zeros", "fp16", "fp32", "avg", "token", "map", "e2vpt", "linear", "lora", "bias", "norm", "auto"),
    *(
        "strided",
        "contiguous",
        "é",
        "e\u0301",
        "a\u0000b",
        "a\nb",
        "\x1b[2J",
        "\u202eevil",
        "\u2028",
        "\ud800",
    ),
    *("\U0001f600" * 9, "x" * 501, "x" * 70_000, "../../etc/passwd", "/dev/zero", "file:///etc/passwd"),
    *([], [0], [1, 2, 3], [4, 4, 4], [[1], [2], [3]], [None] * 3, ["a", "a"], {}, {"a": 1}, {"": None}),
    *([1] * 2000, {str(n): n for n in range(3000)}, [[[[[[[[1]]]]]]]], list(range(4)), [True] * 3, [4.0] * 3),
)
RAW_NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "-0", "-0.0", "1.0", "1E2", "1" * 5000),
    *("0." + "1" * 5000, "1e99999999", "9" * 400, "-" + "9" * 400, "[" * 900 + "]" * 900, '{"a":' * 500),
    *("'a'", "01", "0x10", "+1", ".5", "1.", "true ", "null", '"\\ud800"', '"\\ud800\\udc00"', '"\\u0000"'),
)
NAMES = (
    *(
        "blocks.3.visual",
        "blocks.-1.visual",
        "blocks.00.visual",
        "blocks.0.visual ",
        "Blocks.0.visual",
        "keep",
    ),
    *("blocks.0.key", "blocks.0.value", "blocks.1.value", "head.scale", "head.weight.x", "tuned.norm.bias"),
    *("tuned.head.weight", "tuned.", "tuned..x", "tuned.__class__", "tuned.blocks.0.prompts.visual", "é"),
    *("blocks.0.visual\u0000", "\x1b[31m", "\u202e", "x" * 300, "tuned.blocks.0.attn.qkv.weight", "a/b", ""),
    *("tuned.pos_embed", "tuned.cls_token", "blocks.0.keep", "blocks.2.attn.qkv.bias", "adapted", "forward"),
)
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8),
    *(torch.bool, torch.float8_e4m3fn, torch.complex64, torch.int32),
)
