"""How much of a model is trained."""

from __future__ import annotations

from torch import nn

from e2vpt.errors import check_type


def trainable_line(model: nn.Module) -> str:
    """`trainable params: 59,658 || all params: 5,576,554 || trainable%: 1.0698`, as PEFT prints it."""
    check_type("model", model, nn.Module)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    share = 100 * trainable / total if total else 0.0
    return f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {share:.4f}"


def print_trainable_parameters(model: nn.Module) -> None:
    """Print how many parameters are trained, of how many."""
    print(trainable_line(model))
