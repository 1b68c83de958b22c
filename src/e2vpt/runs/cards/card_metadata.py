"""The metadata block of a model card, by which the Hugging Face Hub finds and shows an adapter."""

from __future__ import annotations

from huggingface_hub import EvalResult, ModelCardData
from timm.models import get_pretrained_cfg

from e2vpt.adapters.info import AdapterInfo
from e2vpt.backbones.presets import PRESETS
from e2vpt.files.hub import ON_THE_HUB
from e2vpt.training.evaluate import Metrics

_KINDS = ("accuracy", "loss")


def card_metadata(
    info: AdapterInfo, name: str, *, own_weights: bool = False, test: Metrics | None = None
) -> ModelCardData:
    """What the Hub indexes: library, base model, tags, and figures of test and validation images as its model
    index.

    With `own_weights` the backbone's came from a file. They may be any, so that no base model is named.
    """
    base = "" if own_weights else base_model(info.backbone)
    on_test = {} if test is None else {"accuracy": test.accuracy, "loss": test.loss}
    on_val = {kind: info.metrics[f"val_{kind}"] for kind in _KINDS if f"val_{kind}" in info.metrics}
    results = [
        _result(name, split, kind, value)
        for split, figures in (("test", on_test), ("validation", on_val))
        for kind, value in figures.items()
    ]
    return ModelCardData(
        library_name="e2vpt",
        base_model=base or None,
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", "visual-prompt-tuning", info.method],
        metrics=["accuracy"] if results else None,
        model_name=name,
        eval_results=results or None,
        base_model_relation="adapter" if base else None,
    )


def _result(name: str, split: str, kind: str, value: float) -> EvalResult:
    return EvalResult(
        task_type="image-classification",
        task_name="Image Classification",
        dataset_type="imagefolder",
        dataset_name=name,
        dataset_split=split,
        metric_type=kind,
        metric_name=f"{split.capitalize()} {kind}",
        metric_value=round(value, 6),
    )


def base_model(backbone: str) -> str:
    """The Hub's name of a backbone that `load_backbone` knows by this one, or ""."""
    if backbone.startswith(ON_THE_HUB):
        return backbone.removeprefix(ON_THE_HUB).partition("@")[0]
    preset = PRESETS.get(backbone)
    if preset is not None and "pretrained_cfg_overlay" in preset.options:  # weights that are not timm's
        return ""
    try:
        found = get_pretrained_cfg(preset.timm_name if preset is not None else backbone)
    except RuntimeError:  # a tag that this timm does not know
        return ""
    return "" if found is None else str(found.hf_hub_id or "")
