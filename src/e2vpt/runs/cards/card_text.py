"""The text of a model card, as the Hugging Face Hub shows it: what an adapter and its run say of themselves.

It holds no time, no path and no name of an image, so that the same run has the same card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2vpt.adapters.info import AdapterInfo
from e2vpt.config.images import TrainOn
from e2vpt.errors import visible
from e2vpt.runs.cards.card_metadata import card_metadata
from e2vpt.runs.folders.folder import ADAPTER, CONFIG
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.progress import per_block
from e2vpt.training.evaluate import Metrics

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
        figures: what the adapter was measured to be, by split; none where it was not.
        counts: images of each split, by its name.
        augment: the augmentation in the end, where a run has chosen it itself.
        trained_on: the images of the training that made the adapter.
        by_the_paper: whether learning rate and weight decay were searched by the paper's protocol.
    """

    config: RunConfig
    figures: Mapping[str, Metrics]
    counts: Mapping[str, int]
    augment: str
    trained_on: TrainOn
    by_the_paper: bool


def model_card(info: AdapterInfo, name: str, facts: CardFacts | None = None) -> str:
    """Metadata and text of the card for the task `name`; the same input gives the same text."""
    name = visible(name)
    own_weights = facts is not None and facts.config.weights is not None
    test = facts.figures.get("test") if facts is not None else None
    metadata = card_metadata(info, name, own_weights=own_weights, test=test).to_yaml()
    parts = [
        f"---\n{metadata}\n{_LICENCE_LINE}\n---\n",
        f"# {_escaped(name)}\n",
        _what_it_is(info),
        _use(info),
        _TO_LOAD,
        _backbone_needed(info, facts),
        _training(info, facts),
        _results(info, test),
        _LIMITS,
        _LICENCE,
    ]
    return "\n".join(parts)


def _what_it_is(info: AdapterInfo) -> str:
    backbone = f"`{info.backbone}`" if info.backbone else "a backbone without a name"
    weights = "with the weights of the backbone" if info.bundled else "without the weights of the backbone"
    return (
        f"An adapter for image classification into {len(info.classes)} classes, trained by `e2vpt` "
        f"([E²VPT](https://arxiv.org/abs/2307.13770)), method `{info.method}`, on the backbone {backbone}. "
        f"`{ADAPTER}` has {info.bytes:,} bytes, {weights}.\n"
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
"""


def _backbone_needed(info: AdapterInfo, facts: CardFacts | None) -> str:
    if info.bundled:
        return "The file holds the backbone too.\n"
    if facts is not None and facts.config.weights is not None:
        where = "Its weights came from a file, which `e2vpt` must be given: `--weights FILE`."
    else:
        where = "The backbone is loaded by its name."
    return f"{where} Other weights than those the adapter was trained on are refused.\n"


def _training(info: AdapterInfo, facts: CardFacts | None) -> str:
    lines = ["## Training\n"]
    if facts is not None and facts.counts:
        lines += [*_table("images", {name: f"{count:,}" for name, count in facts.counts.items()}), ""]
    lines += _table("setting", _settings(info, facts))
    if facts is not None:
        lines.append(f"\n`{CONFIG}` holds every setting of the training.")
    return "\n".join([*lines, ""])


def _settings(info: AdapterInfo, facts: CardFacts | None) -> dict[str, str]:
    height, width = info.preprocessing.image_size
    found = {
        "method": info.method,
        "backbone": f"{info.backbone or 'without a name'}, weights with fingerprint {info.fingerprint[:12]}",
        "image size": f"{height} x {width}",
        "visual prompts": per_block(info.num_visual),
        "key-value prompts": per_block(info.num_kv),
        "tuned beside them": info.options.beside,
    }
    if facts is not None:
        train: dict[str, Any] = {name: getattr(facts.config.train, name) for name in _OF_TRAINING}
        if facts.by_the_paper:
            train |= dict.fromkeys(_SEARCHED, "searched, as in the paper")
            train.pop("seed", None)  # of the search; the last trainings have seeds of their own
        found |= {_spoken(name): str(value) for name, value in train.items()}
        found |= {"trained on": facts.trained_on, "augmentation": facts.augment}
    versions = ", ".join(f"{name} {version}" for name, version in info.versions.items())
    return found | ({"versions": versions} if versions else {})


def _results(info: AdapterInfo, test: Metrics | None) -> str:
    figures = {} if test is None else _on_test(test)
    figures |= {
        _spoken(name): f"{value:.1%}" if name.endswith("accuracy") else f"{value:.4g}"
        for name, value in info.metrics.items()
    }
    figures |= {
        "tuned parameters, without head": f"{info.num_tuned:,}",
        "parameters of the head": f"{info.num_head:,}",
        "visual prompt elements kept": f"{info.visual_kept:.0%}",
        "bytes": f"{info.bytes:,}",
    }
    notes = []
    if "val_accuracy" in info.metrics:
        notes.append("The stored epoch was chosen by the validation images, so their figures are optimistic.")
    if test is None:
        notes.append("Measure it on images of your own: `e2vpt eval`.")
    note = f"\n{' '.join(notes)}\n" if notes else ""
    return "\n".join(["## Results\n", *_table("figure", figures), note])


def _on_test(test: Metrics) -> dict[str, str]:
    return {
        "test accuracy": f"{test.accuracy:.1%} of {test.num_images:,} images",
        "test accuracy, mean over classes": f"{test.mean_class_accuracy:.1%}",
        "test loss": f"{test.loss:.4g}",
    }


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


def _spoken(name: str) -> str:
    return name.replace("val_", "validation ").replace("_", " ")


def _escaped(text: str) -> str:
    """A name as Markdown shows it: nothing in it is markup, a link, an entity or a formula."""
    return _MARKED.sub(r"\\\1", visible(text))
