"""The demo's drawings: one shape, in the place that the class says, the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e2vpt.cli.jobs.drawings import GRID, SIDE, draw, place_names, write_drawings


@pytest.mark.parametrize("place", range(GRID**2))
def test_the_shape_is_in_its_place(place: int) -> None:
    for number in range(20):
        image = draw(place, np.random.default_rng(number)).astype(float).mean(2)
        assert image.shape == (SIDE, SIDE)
        ground = np.median(image)
        far = np.abs(image - ground)
        ys, xs = np.nonzero(far > 0.6 * far.max())
        row, column = divmod(place, GRID)
        # Centres are at 5.5, 12.5, 19.5 and 26.5; half a pixel for the pixel's own centre.
        assert abs(ys.mean() + 0.5 - (5.5 + 7 * row)) < 3.5
        assert abs(xs.mean() + 0.5 - (5.5 + 7 * column)) < 3.5


def test_files_are_split_by_place_and_never_alike(tmp_path: Path) -> None:
    folder = write_drawings(tmp_path / "data", {"train": 3, "val": 1, "test": 2})
    assert len(place_names()) == 16
    for split, count in {"train": 3, "val": 1, "test": 2}.items():
        assert sorted(path.name for path in (folder / split).iterdir()) == sorted(place_names())
        for place in (folder / split).iterdir():
            assert [path.name for path in sorted(place.iterdir())] == [f"{n:03d}.png" for n in range(count)]
    files = sorted(folder.rglob("*.png"))
    assert len({path.read_bytes() for path in files}) == len(files) == 96
    with Image.open(files[0]) as image:
        assert (image.mode, image.size) == ("RGB", (SIDE, SIDE))


def test_the_same_images_every_time_and_only_missing_ones_written(tmp_path: Path) -> None:
    one, other = (write_drawings(tmp_path / name, {"train": 1}) for name in ("a", "b"))
    files = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)
    missing, kept = one / files[0], one / files[1]
    missing.unlink()
    before = kept.stat().st_mtime_ns
    write_drawings(one, {"train": 1})
    assert missing.read_bytes() == (other / files[0]).read_bytes()
    assert kept.stat().st_mtime_ns == before
