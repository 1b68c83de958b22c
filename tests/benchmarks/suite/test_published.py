"""The printed numbers are those of the source, and agree with the means that were printed beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.suite.published import PUBLISHED, published
from e2vpt.benchmarks.vtab.tasks import VTAB

# Rows of the source's table by our names, and the backbones of the line below it.
ROWS = {
    "Full": "full",
    "Linear": "linear",
    "Partial-1": "partial-1",
    "MLP-3": "mlp-3",
    "Sidetune": "sidetune",
}
ROWS |= {"Bias": "bias", "Adapter": "adapter", "VPT-shallow": "vpt-shallow", "VPT-deep": "vpt-deep"}
ROWS |= {"E²VPT": "e2vpt-paper", "LoRA": "lora"}
BACKBONES = {"Swin-B": "swin-b-sup22k", "MAE": "vit-b16-mae", "MoCo v3": "vit-b16-mocov3"}


@pytest.mark.shared
def test_every_number_is_the_source_s(shared: Path) -> None:
    text = (shared / "reference.md").read_text(encoding="utf-8").partition("## 4. Published numbers")[2]
    checked = 0
    for line in text.splitlines():
        name, *cells = (cell.strip(" *") for cell in line.strip("| ").split("|"))
        method = ROWS.get(re.split(r"\*\*| \(", name)[0])
        row = PUBLISHED["vit-b16-sup21k"].get(method or "")
        if row is None:
            continue
        fgvc, natural, specialized, structured, total, mean = map(float, cells)
        assert (row.fgvc, row.natural, row.specialized, row.structured, row.total) == (
            *(fgvc, natural, specialized, structured, total),
        ), method
        # One or two decimals are printed, of which the last is rounded.
        assert row.means()["G"] == pytest.approx(mean, abs=0.06), method
        checked += 1
    for name, preset in BACKBONES.items():
        if preset in PUBLISHED:
            (numbers,) = re.findall(rf"{name} ([\d.]+)/([\d.]+)/(\d+\.\d+)", text)
            row = PUBLISHED[preset]["e2vpt-paper"]
            assert (row.natural, row.specialized, row.structured) == tuple(map(float, numbers)), name
            checked += 1
    assert checked == sum(map(len, PUBLISHED.values())), "a row without a source"


def test_group_means_give_the_printed_mean_over_tasks() -> None:
    groups = [task.group for task in VTAB.values()]
    for name, row in PUBLISHED["vit-b16-sup21k"].items():
        means = row.means()
        total = sum(means[group] for group in groups) / len(groups)
        assert total == pytest.approx(means["T"], abs=0.06), name


def test_every_printed_row_is_one_that_can_be_run() -> None:
    assert {method for rows in PUBLISHED.values() for method in rows} <= set(ENTRIES)


def test_a_checkpoint_by_its_timm_name() -> None:
    assert published("vit_base_patch16_224.orig_in21k") is published("vit-b16-sup21k")
    assert published("vit_base_patch16_224.augreg_in21k") == {}
    assert "T" not in published("vit-b16-mae")["e2vpt-paper"].means()
