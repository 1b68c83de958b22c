"""Segments: which channels they have, and masks over them and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2vpt.config.pruning import Layout
from e2vpt.errors import ConfigError
from e2vpt.pruning.segments import LAYOUTS, compress, expand, split_channels


def test_strided_is_the_official_order_and_contiguous_is_in_runs() -> None:
    channels = torch.arange(6)[None]
    assert split_channels(channels, 3, "strided").tolist() == [[[0, 3], [1, 4], [2, 5]]]
    assert split_channels(channels, 3, "contiguous").tolist() == [[[0, 1], [2, 3], [4, 5]]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_expand_gives_every_channel_the_value_of_its_segment(layout: Layout) -> None:
    values = torch.randn(2, 3)
    assert split_channels(expand(values, 12, layout), 3, layout).equal(values[..., None].expand(2, 3, 4))


@pytest.mark.parametrize("segments", [0, 5, 7, 100])
def test_segments_must_divide_the_channels(segments: int) -> None:
    with pytest.raises(ConfigError, match=f"{segments} segments do not divide prompts of 12 channels"):
        split_channels(torch.zeros(1, 12), segments, "strided")


@given(
    layout=st.sampled_from(LAYOUTS),
    segments=st.sampled_from([1, 2, 4, 8, 24]),
    seed=st.integers(0, 2**16),
    widths=st.lists(st.sampled_from([24, 48]), min_size=1, max_size=3),
)
def test_compress_loses_nothing_and_finds_the_segments(
    layout: Layout, segments: int, seed: int, widths: list[int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(2, (3, segments), generator=generator).bool() for _ in widths]
    masks = [expand(mask, width, layout) for mask, width in zip(drawn, widths, strict=True)]
    found, how = compress(masks)
    assert all(expand(m, w, how).equal(mask) for m, w, mask in zip(found, widths, masks, strict=True))
    assert sum(m.numel() for m in found) <= sum(m.numel() for m in drawn)


def test_a_mask_without_segments_keeps_every_channel() -> None:
    mask = torch.tensor([[True, True, False, True, False, True]])
    found, how = compress([mask])
    assert expand(found[0], 6, how).equal(mask) and found[0].shape == (1, 6)


def test_blocks_without_prompts_have_empty_masks() -> None:
    found, how = compress([torch.zeros(0, 12, dtype=torch.bool), torch.ones(1, 12, dtype=torch.bool)])
    assert [tuple(m.shape) for m in found] == [(0, 1), (1, 1)]
    assert expand(found[0], 12, how).shape == (0, 12)
