"""What pruning chooses between: scores of a trained model, kept in a file, and shares to keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from e2vpt.config import PruneConfig
from e2vpt.config.fields import to_dict
from e2vpt.config.groups import OF_SCORES
from e2vpt.prompting.parts import prompt_layers
from e2vpt.pruning.score_files import load_scores, save_scores
from e2vpt.pruning.scores import Scores, check_prunable, score
from e2vpt.runs.prepare import Prepared, training_images
from e2vpt.runs.reporting import Reporting
from e2vpt.training.processes import as_the_first, is_first_process


def pairs_to_try(prune: PruneConfig, model: nn.Module) -> list[tuple[float, float]]:
    """Shares of tokens and of segments to compare: those asked for, or every way to keep `prune.keep`."""
    if prune.keep_tokens or prune.keep_segments:
        return [(t, s) for t in prune.keep_tokens or (1.0,) for s in prune.keep_segments or (1.0,)]
    most = max(layer.num_visual for layer in prompt_layers(model))
    fewest = max(1, math.ceil(prune.keep * most - 1e-9))
    return [(count / most, min(1.0, prune.keep * most / count)) for count in range(fewest, most + 1)]


def prunable(prune: PruneConfig) -> Callable[[nn.Module], None]:
    """A check that `prune` can be done with a model: see `check_prunable`."""

    def check(model: nn.Module) -> None:
        check_prunable(model, num_segments=prune.num_segments, shared=prune.masks == "shared")

    return check


def scores_of(prepared: Prepared, prune: PruneConfig, path: Path, of: str, reporting: Reporting) -> Scores:
    """The scores of the model as it is now, on its training images; kept in a file for the next time.

    `of` says which model that is: scores of another one are not used.
    """
    asked = scores_asked(prune) | {"of": of}
    found = as_the_first(load_scores(path, asked))
    if found is not None:
        return found
    images = training_images(prepared).in_order()
    scores = as_the_first(
        score(
            prepared.model,
            images,
            num_segments=prune.num_segments,
            layout=prune.layout,
            shared=prune.masks == "shared",
            signed=prune.signed_scores,
            on_batch=reporting.counting(images.num_images),
        )
    )
    if is_first_process():
        save_scores(path, scores, asked)
    return scores


def scores_asked(prune: PruneConfig) -> dict[str, Any]:
    """The settings that scores depend on."""
    asked = to_dict(prune)
    return {name: asked[name] for name in (*OF_SCORES, "masks")}
