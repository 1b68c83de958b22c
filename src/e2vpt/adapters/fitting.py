"""Adapters for one backbone that stays as it is: read, and held to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path

from torch import Tensor, nn

from e2vpt.adapters.files import random_state_kept, rehearse
from e2vpt.adapters.info import AdapterInfo
from e2vpt.adapters.matching import check_weights, fitted
from e2vpt.adapters.reading import read_stored
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.backbones.load import without_memory

_KEPT = 32


class Fitting:
    """Reads adapter files for a backbone, which is not changed and need not be kept.

    An adapter is put on a copy without memory, as `load_adapter` does; the copy is kept for the next adapter
    of the same settings and shapes, as making it is most of the work. Safe to use from several threads.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._blank = without_memory(backbone)
        self._weights = fingerprint(backbone)
        self._adapted: OrderedDict[Hashable, nn.Module] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: str | Path) -> tuple[AdapterInfo, dict[str, Tensor]]:
        """What an adapter file says, and its tensors.

        Raises:
            AdapterFormatError: truncated, altered, hostile, or of a newer format.
            BackboneMismatch: made for another backbone.
        """
        stored = read_stored(path)
        with self._lock:
            return stored.info, self._fitted(path, stored.info, stored.tensors)

    def _fitted(
        self, path: str | Path, info: AdapterInfo, tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        key = _key(info, tensors)
        model = self._adapted.get(key)
        if model is None:
            model = without_memory(self._blank)
            with random_state_kept():
                rehearse(path, info, tensors, model)
        check_weights(path, info, model, self._weights)
        self._adapted[key] = model
        self._adapted.move_to_end(key)
        if len(self._adapted) > _KEPT:
            self._adapted.popitem(last=False)
        return fitted(tensors, model)


def _key(info: AdapterInfo, tensors: Mapping[str, Tensor]) -> Hashable:
    """Everything that decides whether an adapter fits, but for the weights it was made for."""
    shapes = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(tensors.items()))
    masks = tensors["keep"].numpy().tobytes() if info.segments else b""
    counts = (info.num_visual, info.num_kv, info.visual_before, info.segments, info.layout)
    settings = (info.method, info.options, info.prompts, info.pool, info.preprocessing.image_size)
    return (*settings, *counts, masks, shapes)
