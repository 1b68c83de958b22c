"""The text of a model card, as the Hugging Face Hub shows it: what an adapter and its run say of themselves.

It holds no time, no path and no name of an image, so that the same run has the same card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from timm.models import get_pretrained_cfg

from e2vpt.adapters.header import AdapterInfo
from e2vpt.backbones.presets import PRESETS
from e2vpt.errors import visible
from e2vpt.runs.folder import ADAPTER, CONFIG, RunConfig

_MOST_CLASSES = 100
_MARKED = re.compile(r"([\\`*_{}\[\]<>#|~&$@:^])")
_LICENCE_LINE = "# license: choose one of https://huggingface.co/docs/hub/repositories-licenses"
_OF_TRAINING = ("epochs", "batch_size", "lr", "weight_decay", "optimizer", "precision", "seed")
_SEARCHED = ("lr", "weight_decay")


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """What a run folder knows beside its adapter.

    Attributes:
        config: the settings.
        counts: images of each split, by its name.
        by_the_paper: whether learning rate and weight decay were searched by the paper's protocol.
    """

    config: RunConfig
    counts: Mapping[str, int]
    by_the_paper: bool


def model_card(info: AdapterInfo, name: str, facts: CardFacts | None = None) -> str:
    """Metadata and text of the card for the task `name`; the same input gives the same text."""
    name = visible(name)
    metadata = card_metadata(info, name, facts).to_yaml()
    parts = [
        f"---\n{metadata}\n{_LICENCE_LINE}\n---\n",
        f"# {_escaped(name)}\n",
        _what_it_is(info),
        _use(info),
        _TO_LOAD,
        _training(info, facts),
        _results(info),
        _LIMITS,
        _LICENCE,
    ]
    return "\n".join(parts)


def card_metadata(info: AdapterInfo, name: str, facts: CardFacts | None = None) -> ModelCardData:
    """What the Hub indexes: library, base model, tags, and the validation figures as its model index."""
    # Weights of a file may be any; the Hub must not be told that they are the ones of this name.
    base = "" if facts is not None and facts.config.weights is not None else base_model(info.backbone)
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Image Classification",
            dataset_type="imagefolder",
            dataset_name=name,
            dataset_split="validation",
            metric_type=kind,
            metric_name=f"Validation {kind}",
            metric_value=round(info.metrics[f"val_{kind}"], 6),
        )
        for kind in ("accuracy", "loss")
        if f"val_{kind}" in info.metrics
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


def base_model(backbone: str) -> str:
    """The Hub's name of a backbone that `load_backbone` knows by this one, or ""."""
    if backbone.startswith("hf-hub:"):
        return backbone.removeprefix("hf-hub:").partition("@")[0]
    preset = PRESETS.get(backbone)
    if preset is not None and "pretrained_cfg_overlay" in preset.options:  # weights that are not timm's
        return ""
    try:
        found = get_pretrained_cfg(preset.timm_name if preset is not None else backbone)
    except RuntimeError:  # a tag that this timm does not know
        return ""
    return "" if found is None else str(found.hf_hub_id or "")


def _what_it_is(info: AdapterInfo) -> str:
    backbone = f"`{info.backbone}`" if info.backbone else "a backbone without a name"
    weights = "with the weights of the backbone" if info.bundled else "without the weights of the backbone"
    return (
        f"An adapter for image classification into {len(info.classes)} classes, trained with the method "
        f"`{info.method}` of [E²VPT](https://arxiv.org/abs/2307.13770) (`e2vpt`) on the frozen backbone "
        f"{backbone}. `{ADAPTER}` has {info.bytes:,} bytes, {weights}.\n"
    )


def _use(info: AdapterInfo) -> str:
    shown = ", ".join(map(_escaped, info.classes[:_MOST_CLASSES]))
    more = len(info.classes) - _MOST_CLASSES
    return (
        "## Intended use\n\n"
        "To tell which of its classes an image shows, for images like those it was trained on.\n\n"
        f"Classes: {shown}{f', and {more} more' if more > 0 else ''}\n"
    )


_TO_LOAD = f"""## How to use it

Put the name of this repository in place of `OWNER/NAME`:

```sh
e2vpt pull OWNER/NAME
e2vpt predict runs/NAME photos/
```

or, in Python, with the downloaded file:

```python
import e2vpt

model = e2vpt.load("{ADAPTER}")
print(model.predict("photo.jpg", topk=3))
```

The backbone is downloaded under its name. Other weights than those the adapter was trained on are refused.
"""


def _training(info: AdapterInfo, facts: CardFacts | None) -> str:
    lines = ["## Training\n"]
    if facts is not None and facts.counts:
        lines += [*_table("images", {name: f"{count:,}" for name, count in facts.counts.items()}), ""]
    lines += _table("setting", _settings(info, facts))
    if facts is not None:
        lines.append(f"\n`{CONFIG}` holds every setting.")
    if facts is not None and facts.config.weights is not None:
        lines.append("The backbone's weights came from a file, so this card names no `base_model`.")
    return "\n".join([*lines, ""])


def _settings(info: AdapterInfo, facts: CardFacts | None) -> dict[str, str]:
    height, width = info.preprocessing.image_size
    found = {
        "method": info.method,
        "backbone": f"{info.backbone or 'without a name'}, weights with fingerprint {info.fingerprint[:12]}",
        "image size": f"{height} x {width}",
        "visual prompts, by block": _counts(info.num_visual),
        "key-value prompts, by block": _counts(info.num_kv),
        "tuned beside them": info.options.beside,
    }
    if facts is not None:
        train: dict[str, Any] = {name: getattr(facts.config.train, name) for name in _OF_TRAINING}
        if facts.by_the_paper:
            train |= dict.fromkeys(_SEARCHED, "searched, as in the paper")
        found |= {name.replace("_", " "): str(value) for name, value in train.items()}
        found |= {"trained on": facts.config.data.train_on, "augmentation": facts.config.data.augment}
    versions = ", ".join(f"{name} {version}" for name, version in info.versions.items())
    return found | ({"versions": versions} if versions else {})


def _results(info: AdapterInfo) -> str:
    figures = {
        name.replace("_", " "): f"{value:.1%}" if name.endswith("accuracy") else f"{value:.4g}"
        for name, value in info.metrics.items()
    }
    figures |= {
        "tuned parameters, without head": f"{info.num_tuned:,}",
        "parameters of the head": f"{info.num_head:,}",
        "visual prompt elements kept": f"{info.visual_kept:.0%}",
        "bytes": f"{info.bytes:,}",
    }
    note = (
        "\nThe stored epoch was chosen by the validation images, so their figures are optimistic. Measure it "
        "on images of your own: `e2vpt eval`.\n"
        if "val_accuracy" in info.metrics
        else ""
    )
    return "\n".join(["## Results\n", *_table("figure", figures), note])


_LIMITS = """## Limits

* It knows no other classes: whatever an image shows, one of them is named.
* Scores are not calibrated probabilities unless somebody has checked that they are.
* What biases the training images and the backbone have, it has too.
* Before anything depends on its answers, test it on images from where it will be used.
"""

_LICENCE = """## Licence

**Not chosen yet.** Whoever publishes this adapter chooses: add a `license:` to the block at the top of this
file, and say here what follows from the licences of the training images and of the backbone.
"""


def _table(title: str, rows: Mapping[str, str]) -> list[str]:
    lines = [f"| {_escaped(name)} | {_escaped(text)} |" for name, text in rows.items()]
    return [f"| {title} | |", "|---|---|", *lines]


def _counts(counts: tuple[int, ...]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))


def _escaped(text: str) -> str:
    """A name as Markdown shows it: nothing in it is markup, a link, an entity or a formula."""
    return _MARKED.sub(r"\\\1", visible(text))
