"""Explanations as a page: each picture a section, each model a row of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from e2vpt.errors import visible
from e2vpt.insight.documents import data_uri, filled
from e2vpt.insight.explanations.explaining import NO_ATTENTION, Explanation
from e2vpt.insight.explanations.heat import as_picture, over_picture, place_of, signed_over_picture
from e2vpt.insight.explanations.shares import KINDS, NO_ROLLOUT, AttentionShares

GAP_TO_MENTION = 0.05
"""Of integrated gradients: from here on the page says that their sum is not complete."""

_VISUAL, _KEY_VALUE = 2, 3
"""Places of the two kinds of prompts in `KINDS`."""
_FULL_COLOUR = 0.1
"""A tenth of all attention is much for one prompt."""


def explain_page(explanations: Sequence[Sequence[Explanation]]) -> bytes:
    """A section for each picture, with what every model makes of it."""
    sections = [
        {
            "file": visible(rows[0].file),
            "explained": visible(rows[0].explained[0]),
            "rows": [_model(row) for row in rows],
        }
        for rows in explanations
    ]
    runs = [(visible(row.run), visible(row.method)) for row in explanations[0]]
    return filled("explain.html", sections=sections, runs=runs).encode()


def _model(row: Explanation) -> dict[str, Any]:
    explained, score = row.explained
    is_named = explained in [name for name, _ in row.top]
    return {
        "run": visible(row.run),
        "method": visible(row.method),
        "top": [(visible(name), f"{share:.1%}") for name, share in row.top],
        "explained": visible(explained),
        "explained_score": "" if is_named else f"{score:.1%}",
        "without": _without(row),
        "pictures": _pictures(row),
        "note": NO_ATTENTION if row.shares is None else _no_rollout(row),
        "attention": None if row.shares is None else _attention(row.shares),
    }


def _no_rollout(row: Explanation) -> str:
    return "" if row.rollout is not None else f"{NO_ROLLOUT} See Grad-CAM and gradients."


def _without(row: Explanation) -> dict[str, str] | None:
    if row.without is None:
        return None
    name, score, same = row.without
    is_same = name == row.explained[0]
    return {"name": visible(name), "score": f"{score:.1%}", "same": "" if is_same else f"{same:.1%}"}


def _pictures(row: Explanation) -> list[dict[str, str]]:
    explained = row.explained[0]
    found = [_picture("Picture, as the model gets it", as_picture(row.seen), row.file)]
    if row.rollout is not None:
        patches = row.rollout.patches.float().numpy()
        share = float(row.rollout.shares[0] + row.rollout.shares[1])
        caption = f"Rollout: {share:.0%} from the image, {1 - share:.0%} from prompts"
        alt = f"Attention comes mostly from {place_of(patches)}."
        found.append(_picture(caption, over_picture(row.seen, patches), alt))
    alt = f"Patches that speak for {explained} lie mostly in {place_of(row.cam)}."
    if row.cam.max() <= 0:
        alt = f"No patch speaks for {explained}."
    found.append(_picture("Grad-CAM", over_picture(row.seen, row.cam), alt))
    gap = f" (sum off by {row.gap:.0%}; more --steps are closer)" if row.gap > GAP_TO_MENTION else ""
    alt = f"Pixels that speak for {explained} lie mostly in {place_of(row.integrated)}."
    found.append(_picture(f"Integrated gradients{gap}", signed_over_picture(row.seen, row.integrated), alt))
    return found


def _picture(caption: str, image: Image.Image, alt: str) -> dict[str, str]:
    return {"caption": caption, "src": data_uri(image), "alt": visible(alt)}


def _attention(shares: AttentionShares) -> dict[str, Any]:
    used = [place for place in range(len(KINDS)) if float(shares.even[:, place].max()) > 0]
    blocks = [
        [
            {
                "place": place,
                "width": f"{found[place]:.2%}",
                "share": f"{found[place]:.1%}",
                "even": f"{even[place]:.0%}",
            }
            for place in used
        ]
        for found, even in zip(shares.by_block().tolist(), shares.even.tolist(), strict=True)
    ]
    prompts = [place for place in (_VISUAL, _KEY_VALUE) if place in used]
    singly = {_VISUAL: shares.visual, _KEY_VALUE: shares.key_value}
    return {
        "kinds": [{"place": place, "name": KINDS[place]} for place in used],
        "blocks": blocks,
        "has_prompts": bool(prompts),
        "by_head": [_by_head(KINDS[place], shares.found[:, :, place]) for place in prompts],
        "by_prompt": [_by_prompt(KINDS[place], singly[place]) for place in prompts],
    }


def _by_head(name: str, shares_LH: Tensor) -> dict[str, Any]:
    """What each head gives to the prompts of a kind; heads that a block does not have are NaN."""
    rows = [
        [None if math.isnan(share) else _cell(f"{share:.0%}", share) for share in row]
        for row in shares_LH.tolist()
    ]
    return {"name": name, "columns": shares_LH.shape[1], "rows": rows}


def _by_prompt(name: str, blocks: Sequence[Tensor]) -> dict[str, Any]:
    """What every single prompt [H, p] gets, the mean over heads."""
    rows = [
        [_cell(f"{share:.1%}", share / _FULL_COLOUR) for share in block.mean(0).tolist()] for block in blocks
    ]
    return {"name": name, "columns": max(map(len, rows)), "rows": rows}


def _cell(text: str, colour: float) -> dict[str, str]:
    return {"text": text, "colour": f"{min(colour, 1):.3f}"}
