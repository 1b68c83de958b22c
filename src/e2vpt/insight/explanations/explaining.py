"""One picture, explained: what a model says of it, where it looks, and what its prompts do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from e2vpt.backbones.families import is_swin
from e2vpt.data import ImageSource, eval_transform
from e2vpt.errors import ConfigError, visible
from e2vpt.insight.explanations.gradients import grad_cam, integrated_gradients
from e2vpt.insight.explanations.shares import (
    KINDS,
    AttentionShares,
    Rollout,
    attention_rollout,
    attention_shares,
    patch_grid,
)
from e2vpt.insight.explanations.watching import watched_attention
from e2vpt.prompting.parts import disabled, evaluating, find_prompts
from e2vpt.runs.models.predict import probabilities
from e2vpt.runs.models.task_model import TaskModel

NO_ATTENTION = "This method does not change attention, so it is not watched: see Grad-CAM and gradients."


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Explanation:
    """What one model makes of one picture.

    Attributes:
        run, method: which model.
        file: the picture's name.
        top: the three most probable classes, with their probabilities.
        explained: the class that `cam` and `integrated` are about, and its probability.
        without: the class named without the prompts, its probability, and that of `explained`; None where
            there are no prompts.
        seen: [H, W, 3], the picture as the model gets it, 0 to 1.
        shares: of attention; None where it was not watched.
        rollout: None where it is not defined.
        cam: Grad-CAM [h, w], signed.
        integrated: gradients [H, W], signed.
        gap: what is missing of their sum, as a share of the score (`Integrated.gap`).
    """

    run: str
    method: str
    file: str
    top: tuple[tuple[str, float], ...]
    explained: tuple[str, float]
    without: tuple[str, float, float] | None
    seen: NDArray[np.float32]
    shares: AttentionShares | None
    rollout: Rollout | None
    cam: NDArray[np.float32]
    integrated: NDArray[np.float32]
    gap: float

    def figures(self) -> dict[str, Any]:
        """As plain JSON values: everything but the pictures."""
        without = self.without and dict(zip(("class", "score", "explained_score"), self.without, strict=True))
        return {
            "file": self.file,
            "run": self.run,
            "method": self.method,
            "classes": [name for name, _ in self.top],
            "scores": [score for _, score in self.top],
            "explained": self.explained[0],
            "explained_score": self.explained[1],
            "without_prompts": without,
            "kinds": list(KINDS),
            "attention": None if self.shares is None else _plain(self.shares.found),
            "attention_if_even": None if self.shares is None else _plain(self.shares.even),
            "attention_by_prompt": None
            if self.shares is None
            else [
                {"visual": visual.tolist(), "key_value": key_value.tolist()}
                for visual, key_value in zip(self.shares.visual, self.shares.key_value, strict=True)
            ],
            "rollout": None if self.rollout is None else _plain(self.rollout.shares),
            "rollout_patches": None if self.rollout is None else _plain(self.rollout.patches),
            "grad_cam": self.cam.tolist(),
            "integrated_gradients_gap": self.gap,
        }


def _plain(values: Tensor) -> Any:
    """Nested lists; heads that a block does not have are left out."""
    if values.dim() > 1:
        return [_plain(row) for row in values if not bool(row.isnan().all())]
    return values.tolist()


def explain_image(
    models: Mapping[str, TaskModel],
    image: ImageSource,
    *,
    label: str | None = None,
    steps: int = 32,
) -> list[Explanation]:
    """What each model makes of a picture; all are asked about the same class.

    That is `label`, or what the first of them says. `steps` as in `integrated_gradients`.

    Raises:
        ConfigError: a model that does not know that class.
        UnreadableImages: the picture does not decode.
    """
    found: list[Explanation] = []
    for run, model in models.items():
        check_knows(run, model, label)
        found.append(_explanation(run, model, image, label, steps))
        label = label or found[0].explained[0]
    return found


def check_knows(run: str, model: TaskModel, label: str | None) -> None:
    """Refuse a class that a model does not know.

    Raises:
        ConfigError: with the classes that it knows.
    """
    if label is not None and label not in model.info.classes:
        some = ", ".join(map(visible, model.info.classes[:10]))
        more = ", ..." if len(model.info.classes) > 10 else ""
        raise ConfigError(
            f"{run} does not know the class {label!r}. It knows {some}{more}. Choose another --class, or "
            "put only runs of the same task beside each other."
        )


def _explanation(
    run: str, model: TaskModel, image: ImageSource, label: str | None, steps: int
) -> Explanation:
    preprocessing, classes, network = model.info.preprocessing, model.info.classes, model.model
    x = eval_transform(preprocessing)(image.open(preprocessing.as_stored))
    with evaluating(network), watched_attention(network) as blocks:
        scores = probabilities(network, x.unsqueeze(0))[0]
    index = int(scores.argmax()) if label is None else classes.index(label)
    has_rollout = blocks and not is_swin(network)
    grid = patch_grid(network, preprocessing.image_size)
    integrated = integrated_gradients(network, x, index, steps)
    top = scores.topk(min(3, len(classes)))
    return Explanation(
        run=run,
        method=model.info.method,
        file=image.name,
        top=tuple(
            (classes[i], score) for i, score in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ),
        explained=(classes[index], float(scores[index])),
        without=_without_prompts(network, x, classes, index),
        seen=_as_seen(x, preprocessing.mean, preprocessing.std),
        shares=attention_shares(network, blocks) if blocks else None,
        rollout=attention_rollout(network, blocks, grid) if has_rollout else None,
        cam=grad_cam(network, x, index).float().numpy(),
        integrated=integrated.pixels.float().numpy(),
        gap=integrated.gap if math.isfinite(integrated.gap) else 1.0,
    )


def _without_prompts(
    network: nn.Module, x: Tensor, classes: Sequence[str], index: int
) -> tuple[str, float, float] | None:
    if not any(layer.num_visual or layer.num_kv for layer in find_prompts(network)):
        return None
    with evaluating(network), disabled(network):
        scores = probabilities(network, x.unsqueeze(0))[0]
    best = int(scores.argmax())
    return classes[best], float(scores[best]), float(scores[index])


def _as_seen(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """A normalised picture [3, H, W] with its own colours again, [H, W, 3]."""
    values = x * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    pixels: NDArray[np.float32] = values.clamp(0, 1).permute(1, 2, 0).numpy()
    return pixels
