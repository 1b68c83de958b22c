"""A frozen backbone whose tuned values differ from row to row of a batch: many tasks in one forward pass.

Its linear layers, LayerNorms and patch projection take biases, scales and norms [B, C] where there are some
for the coming pass, else their own; its attention takes a table for every image. The weights stay one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.config import PromptConfig
from e2vpt.prompting.attention import AttentionWithPrompts, TableByImage
from e2vpt.prompting.install import prompt
from e2vpt.prompting.parts import classifier
from e2vpt.prompting.sites import is_of_positions, take_over
from e2vpt.prompting.tuned_linear import LinearParts, TunedLinear, by_image


class Rows:
    """What the coming forward pass takes in place of a backbone's own values.

    Attributes:
        values: by the parameter's name, [C] for all images or [B, C].
        attentions: of all blocks, in forward order; they take tables.
    """

    def __init__(self) -> None:
        self.values: Mapping[str, Tensor] = {}
        self.attentions: list[AttentionWithPrompts] = []


class RowLinear(TunedLinear):
    """A linear layer whose bias and output scales may differ by image."""

    def __init__(self, linear: nn.Linear, name: str, rows: Rows) -> None:
        super().__init__(linear)
        self._named = (name, rows)

    def parts(self) -> LinearParts:
        """What `parts_of` says of this layer."""
        name, rows = self._named
        bias: Tensor | None = self.bias
        return self.weight, rows.values.get(f"{name}.bias", bias), rows.values.get(f"{name}.scale")


class RowNorm(nn.LayerNorm):
    """A LayerNorm whose weight and bias may differ by image."""

    def __init__(self, norm: nn.LayerNorm, name: str, rows: Rows) -> None:
        take_over(self, norm)
        self._plain = type(norm).forward
        self._named = (name, rows)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, ..., C] -> [B, ..., C]."""
        name, rows = self._named
        weight, bias = (rows.values.get(f"{name}.{part}") for part in ("weight", "bias"))
        if weight is None and bias is None:
            plain: Tensor = self._plain(self, x)
            return plain
        own_weight, own_bias = self.weight, self.bias
        if weight is None:
            normed = F.layer_norm(x, self.normalized_shape, own_weight, None, self.eps)
            assert bias is not None
            return normed + by_image(bias, normed).to(normed.dtype)
        normed = F.layer_norm(x, self.normalized_shape, None, None, self.eps)
        bias = own_bias if bias is None else bias
        weight, bias = (by_image(part, normed).to(normed.dtype) for part in (weight, bias))
        return torch.addcmul(bias, normed, weight)


class RowConv(nn.Conv2d):
    """A patch projection whose bias may differ by image."""

    def __init__(self, conv: nn.Conv2d, name: str, rows: Rows) -> None:
        take_over(self, conv)
        self._named = (name, rows)

    def forward(self, input: Tensor) -> Tensor:
        """Images [B, 3, h, w] -> [B, C, h', w']."""
        name, rows = self._named
        bias = rows.values.get(f"{name}.bias")
        if bias is None:
            return super().forward(input)
        out: Tensor = self._conv_forward(input, self.weight, None)
        return out + bias.to(out.dtype).view(-1, bias.shape[-1], 1, 1)


def install_rows(backbone: nn.Module) -> Rows:
    """Give a plain timm backbone room for values by image, and take its head; changes the backbone.

    Afterwards its output is the feature that a head would see, [B, D].

    Raises:
        As `e2vpt.prompt`.
    """
    rows = Rows()
    prompt(backbone, PromptConfig(num_visual=0, num_kv=0)).requires_grad_(False)
    head = classifier(backbone)
    known = ((nn.Linear, RowLinear), (nn.LayerNorm, RowNorm), (nn.Conv2d, RowConv))
    for path, parent in list(backbone.named_modules()):
        for name, child in list(parent.named_children()):
            for kind, new in known:
                if isinstance(child, kind) and child is not head and not is_of_positions(path):
                    made: Any = new
                    setattr(parent, name, made(child, f"{path}.{name}".lstrip("."), rows))
    backbone.reset_classifier(0)  # type: ignore[operator]
    rows.attentions = [module for module in backbone.modules() if isinstance(module, AttentionWithPrompts)]
    return rows


@contextmanager
def applied(rows: Rows, values: Mapping[str, Tensor], tables: Mapping[int, TableByImage]) -> Iterator[None]:
    """Inside, the backbone computes with these values, and with the tables of blocks by their number."""
    rows.values = values
    for index, table in tables.items():
        rows.attentions[index].by_image = table
    try:
        yield
    finally:
        rows.values = {}
        for index in tables:
            rows.attentions[index].by_image = None
