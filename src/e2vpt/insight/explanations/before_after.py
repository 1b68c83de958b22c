"""Labelled images as the frozen and the adapted backbone see them: did adaptation separate the classes?"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from e2vpt.config.fields import check_count
from e2vpt.config.images import WhichSplit
from e2vpt.data import Split
from e2vpt.errors import DataError, visible
from e2vpt.insight.explanations.embedding import Embedding, check_embeds, embedding
from e2vpt.insight.explanations.separation import Numbered
from e2vpt.runs.models.embed import embed_images
from e2vpt.runs.models.load import plain_backbone
from e2vpt.runs.models.task_model import TaskModel

SPACES = {"features": "feature space", "hyperbolic": "hyperbolic plane", "euclidean": "Euclidean plane"}
"""Where separation is measured, in words."""
MEASURES = {"silhouette": "silhouette", "nearest_centroid": "nearest centroid"}
"""What is measured, in words."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BeforeAfter:
    """Both embeddings of the same images.

    Attributes:
        run, data, split: which adapter, which images.
        seed: of the choice of images and of UMAP.
        files: names of the n images.
        classes: names, of which `labels` [n] are numbers.
        before: features of the frozen backbone.
        after: features of the backbone with prompts and whatever else is tuned but the head.
    """

    run: str
    data: str
    split: str
    seed: int
    files: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Numbered
    before: Embedding
    after: Embedding

    def figures(self) -> dict[str, Any]:
        """As plain JSON values: everything but the points."""
        measured = {
            when: {space: dataclasses.asdict(found) for space, found in each.separation.items()}
            for when, each in (("before", self.before), ("after", self.after))
        }
        return {
            "run": self.run,
            "data": self.data,
            "split": self.split,
            "seed": self.seed,
            "num_images": len(self.files),
            "num_classes": len(set(self.labels.tolist())),
            **measured,
        }


def embed_before_after(
    model: TaskModel,
    run: str,
    source: str | PathLike[str],
    *,
    split: WhichSplit = "test",
    max_images: int = 1000,
    seed: int = 0,
    backbone: str | None = None,
    weights: Path | None = None,
    skip_unreadable: bool = False,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> BeforeAfter:
    """Embed labelled images before and after adaptation; `split` and `skip_unreadable` as in `evaluate`.

    Of more than `max_images` images as many are drawn, with `seed`. Classes with one image are left out.
    `backbone` and `weights` as in `load`. `on_note` is told in words what was chosen.

    Raises:
        DataError: as in `evaluate`; too few images or classes.
        MissingExtra: without umap-learn or scikit-learn.
    """
    check_embeds()
    check_count("max_images", max_images, 10)
    found = model.labelled(
        source, split=split, skip_unreadable=skip_unreadable, on_images=on_images, on_note=on_note
    )
    if found.left_out:
        on_note(f"{len(found.left_out)} unreadable image(s) left out.")
    images = _chosen(found.images, max_images, seed, model.info.classes, on_note)
    labels = np.array(images.labels, dtype=np.int64)
    plain = plain_backbone(model.path, backbone, weights=weights)
    plain = plain.to(next(model.model.parameters()).device).eval()
    before = embed_images(plain, images.images, model.info.preprocessing, on_images=on_images)
    after = model.embed(list(images.images), on_images=on_images)
    return BeforeAfter(
        run=run,
        data=str(source),
        split=found.which,
        seed=seed,
        files=tuple(image.name for image in images.images),
        classes=tuple(model.info.classes),
        labels=labels,
        before=embedding(before, labels, seed),
        after=embedding(after, labels, seed),
    )


def _chosen(
    images: Split, most: int, seed: int, classes: tuple[str, ...], on_note: Callable[[str], None]
) -> Split:
    if len(images) > most:
        on_note(f"{most} of {len(images)} images are drawn (seed {seed}); --max-images takes more.")
        images = images.subset(sorted(random.Random(seed).sample(range(len(images)), most)))
    counts = Counter(images.labels)
    single = [classes[label] for label, count in sorted(counts.items()) if count == 1]
    if single:
        names = ", ".join(map(visible, single[:10])) + (", ..." if len(single) > 10 else "")
        on_note(f"{len(single)} class(es) with a single image are left out: {names}.")
        images = images.subset(i for i, label in enumerate(images.labels) if counts[label] > 1)
    if len(set(images.labels)) < 2 or len(images) < 10:
        raise DataError(
            f"Class separation needs at least 10 images of two classes; {len(images)} of "
            f"{len(set(images.labels))} are left. Add images, or choose another --split."
        )
    return images
