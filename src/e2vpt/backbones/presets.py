"""Short names: the paper's backbones, and what people start with today; where their weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A backbone under a short name.

    Attributes:
        timm_name: the model that timm builds for it.
        source: where the paper's checkpoint comes from; `weights` reads that file as it is. Empty where the
            hub has it under timm's name.
        options: what differs from timm's model, for timm.create_model.
    """

    timm_name: str
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "vit-b16-sup21k": Preset(
        timm_name="vit_base_patch16_224.orig_in21k",
        source="https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz",
    ),
    "vit-b16-augreg21k": Preset(  # as often called in21k; the published numbers are not of it
        timm_name="vit_base_patch16_224.augreg_in21k",
        source="https://storage.googleapis.com/vit_models/augreg/"
        "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0.npz",
    ),
    "vit-b16-mae": Preset(  # the paper reads MAE out by the mean of its patches, not by the class token
        timm_name="vit_base_patch16_224.mae",
        source="https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth",
        options={"global_pool": "avg"},
    ),
    "vit-b16-mocov3": Preset(  # timm has no such weights: the architecture only, with MoCo's preprocessing
        timm_name="vit_base_patch16_224",
        source="https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/linear-vit-b-300ep.pth.tar",
        options={
            "pretrained_cfg_overlay": {
                "tag": "mocov3",
                "url": "",
                "hf_hub_id": None,
                "mean": (0.485, 0.456, 0.406),  # ImageNet's, here so that names of presets need no timm
                "std": (0.229, 0.224, 0.225),
                "crop_pct": 0.875,
                "interpolation": "bilinear",
            }
        },
    ),
    "swin-b-sup22k": Preset(
        timm_name="swin_base_patch4_window7_224.ms_in22k",
        source="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
        "swin_base_patch4_window7_224_22k.pth",
    ),
    # With biases of queries and values, which are zero in the checkpoint: the recipe tunes them. timm reads
    # DINOv3 out by the mean of its patches; its authors by the class token, as those in -cls.
    "dinov3-s": Preset(timm_name="vit_small_patch16_dinov3_qkvb.lvd1689m"),
    "dinov3-b": Preset(timm_name="vit_base_patch16_dinov3_qkvb.lvd1689m"),
    "dinov3-s-cls": Preset(
        timm_name="vit_small_patch16_dinov3_qkvb.lvd1689m", options={"global_pool": "token"}
    ),
    "dinov3-b-cls": Preset(
        timm_name="vit_base_patch16_dinov3_qkvb.lvd1689m", options={"global_pool": "token"}
    ),
    "pe-core-b": Preset(timm_name="vit_pe_core_base_patch16_224.fb"),
    "siglip2-b": Preset(timm_name="vit_base_patch16_siglip_224.v2_webli"),
    "demo": Preset(timm_name="", source="scripts/demo_backbone; shipped with the package"),
}
