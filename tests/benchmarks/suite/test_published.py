"""The printed numbers agree with the means that were printed beside them."""

from __future__ import annotations

import pytest

from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.suite.published import PUBLISHED, published

# G, as reference.md section 4 prints it.
G = {"full": 68.96, "linear": 57.64, "vpt-deep": 71.96, "e2vpt-paper": 73.94, "partial-1": 60.7}
G |= {"mlp-3": 57.1, "sidetune": 49.9, "bias": 65.2, "adapter": 60.3, "vpt-shallow": 67.8, "lora": 74.60}
SIZES = {"natural": 7, "specialized": 4, "structured": 8}


@pytest.mark.parametrize("method", G)
def test_group_means_give_the_printed_g_and_t(method: str) -> None:
    means = PUBLISHED["vit-b16-sup21k"][method].means()
    # One or two decimals are printed, of which the last is rounded.
    assert means["G"] == pytest.approx(G[method], abs=0.06)
    total = sum(size * means[group] for group, size in SIZES.items()) / 19
    assert total == pytest.approx(means["T"], abs=0.06)


def test_every_printed_row_is_one_that_can_be_run() -> None:
    assert {method for rows in PUBLISHED.values() for method in rows} <= set(ENTRIES)


def test_a_checkpoint_by_its_timm_name() -> None:
    assert published("vit_base_patch16_224.orig_in21k") is published("vit-b16-sup21k")
    assert published("vit_base_patch16_224.augreg_in21k") == {}
    assert "T" not in published("vit-b16-mae")["e2vpt-paper"].means()
