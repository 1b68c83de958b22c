"""What a card says of its backbone to the Hub; the rest of the metadata is looked at in test_card_text.py."""

from __future__ import annotations

from e2vpt.runs.cards.card_metadata import base_model


def test_base_models() -> None:
    for backbone, found in {
        "vit_base_patch16_224.augreg_in21k": "timm/vit_base_patch16_224.augreg_in21k",
        "vit-b16-sup21k": "timm/vit_base_patch16_224.orig_in21k",
        "hf-hub:somebody/vit@v2": "somebody/vit",
        **dict.fromkeys(
            ("vit-b16-mocov3", "demo", "", "nothing_like_it", "vit_base_patch16_224.nothing"), ""
        ),
    }.items():
        assert base_model(backbone) == found, backbone
