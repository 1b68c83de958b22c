"""Methods of Hugging Face PEFT, put into a timm model: beside its projections to queries, keys and values,
ia3 beside its MLPs too.

All start where the backbone is. VeRA is not here: its layers share state that PEFT keeps outside the model.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from e2vpt.config import MethodConfig
from e2vpt.errors import needs
from e2vpt.methods.projections import call_projections

_QKV = ["qkv", "q_proj", "k_proj", "v_proj"]


def inject(model: nn.Module, method: str, options: MethodConfig) -> None:
    """Put what a method trains into a frozen model.

    Raises:
        MissingExtra: PEFT is not installed.
    """
    with needs("bench", f"Method {method} is PEFT's"):
        from peft import inject_adapter_in_model
    call_projections(model)
    inject_adapter_in_model(_config(method, options), model)


def _config(method: str, options: MethodConfig) -> Any:
    import peft

    rank, alpha = options.lora_rank, options.lora_alpha
    if method == "loha":
        return peft.LoHaConfig(r=rank, alpha=alpha, target_modules=_QKV)  # arXiv 2108.06098
    if method == "lokr":
        return peft.LoKrConfig(r=rank, alpha=alpha, target_modules=_QKV)  # arXiv 2212.10650
    if method == "oft":
        # arXiv 2306.07280; 16 divides the widths of ViT and Swin.
        return peft.OFTConfig(oft_block_size=16, target_modules=_QKV)
    if method == "ia3":
        return peft.IA3Config(target_modules=[*_QKV, "fc2"], feedforward_modules=["fc2"])  # arXiv 2205.05638
    use_dora = method == "dora"  # arXiv 2402.09353; plain LoRA: 2106.09685
    return peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=_QKV, use_dora=use_dora)
