"""The printed numbers are those of the source, and agree with the means that were printed beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.suite.published import PUBLISHED, published_means

# Rows of the source's table by our names.
ROWS = {
    "Full": "full",
    "Linear": "linear",
    "Partial-1": "partial-1",
    "MLP-3": "mlp-3",
    "Sidetune": "sidetune",
}
ROWS |= {"Bias": "bias", "Adapter": "adapter", "VPT-shallow": "vpt-shallow", "VPT-deep": "vpt-deep"}
ROWS |= {"E²VPT": "e2vpt-paper"}


@pytest.mark.shared
def test_every_number_is_the_source_s(shared: Path) -> None:
    text = (shared / "reference.md").read_text(encoding="utf-8").partition("## 4. Published numbers")[2]
    checked = 0
    for line in text.splitlines():
        name, *cells = (cell.strip(" *") for cell in line.strip("| ").split("|"))
        row = PUBLISHED.get(ROWS.get(re.split(r"\*\*| \(", name)[0], ""))
        if row is None:
            continue
        fgvc, natural, specialized, structured, total, mean = map(float, cells)
        assert row == (fgvc, natural, specialized, structured), name
        # One or two decimals are printed, of which the last is rounded.
        means = published_means("vtab", "vit-b16-sup21k")[ROWS[re.split(r"\*\*| \(", name)[0]]]
        assert (means["T"], means["G"]) == pytest.approx((total, mean), abs=0.06), name
        checked += 1
    assert checked == len(PUBLISHED), "a row without a source"


def test_every_printed_row_is_one_that_can_be_run() -> None:
    assert set(PUBLISHED) <= set(ENTRIES)


def test_a_checkpoint_by_its_timm_name() -> None:
    by_timm = published_means("fgvc", "vit_base_patch16_224.orig_in21k")
    assert by_timm == published_means("fgvc", "vit-b16-sup21k") and by_timm["full"] == {"mean": 88.54}
    for other in ("vit_base_patch16_224.augreg_in21k", "vit-b16-mae"):
        assert published_means("vtab", other) == {}
