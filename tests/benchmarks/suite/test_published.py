"""The printed group means give the overall means that were printed beside them."""

from __future__ import annotations

import pytest

from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.suite.published import PUBLISHED, published

# T and G as reference.md section 4 prints them, with one or two decimals, of which the last is rounded.
PRINTED = {
    "full": (65.57, 68.96),
    "linear": (52.94, 57.64),
    "partial-1": (56.5, 60.7),
    "mlp-3": (53.2, 57.1),
    "sidetune": (45.7, 49.9),
    "bias": (62.1, 65.2),
    "adapter": (56.2, 60.3),
    "vpt-shallow": (64.9, 67.8),
    "vpt-deep": (69.43, 71.96),
    "e2vpt-paper": (71.42, 73.94),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_group_means_give_the_printed_t_and_g(method: str) -> None:
    means = PUBLISHED[method].means()
    assert (means["T"], means["G"]) == pytest.approx(PRINTED[method], abs=0.06)


def test_every_printed_row_is_one_that_can_be_run() -> None:
    assert set(PUBLISHED) <= set(ENTRIES)


def test_a_checkpoint_by_its_timm_name() -> None:
    assert published("vit_base_patch16_224.orig_in21k") is published("vit-b16-sup21k") is PUBLISHED
    assert published("vit_base_patch16_224.augreg_in21k") == published("vit-b16-mae") == {}
