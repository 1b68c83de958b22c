"""A loader and its sampler are told which epoch begins; what batches are is tested in test_fit_refused."""

from __future__ import annotations

from types import SimpleNamespace

from support.fitting_for_tests import Labelled, config
from support.tasks_for_tests import batches, tiny_vit

from e2vpt import fit


def test_a_sampler_is_told_every_epoch() -> None:
    seen: list[int] = []
    data = Labelled(batches([4]))
    data.sampler = SimpleNamespace(set_epoch=seen.append)  # type: ignore[attr-defined]
    fit(tiny_vit(), data, config=config(epochs=2))
    assert seen == [0, 1]


def test_a_loader_is_told_every_epoch() -> None:
    seen: list[int] = []
    data = Labelled(batches([4]))
    data.set_epoch = seen.append  # type: ignore[attr-defined]
    fit(tiny_vit(), data, config=config(epochs=2))
    assert seen == [0, 1]
