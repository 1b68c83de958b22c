"""One rule says which files are images."""

from __future__ import annotations

from e2vpt.data.decoding.formats import formats, image_suffixes, is_image


def test_suffixes_cover_what_decodes_and_nothing_that_runs_code() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".ppm"} <= image_suffixes()
    assert not {".eps", ".ps", ".csv", ".txt", ".json", ".md", ".pdf"} & image_suffixes()
    assert not {"EPS", "WMF", "PSD", "FITS"} & set(formats())


def test_photos_to_be_converted_count_as_images() -> None:
    assert all(map(is_image, ("a.JPG", "b.heic", "c.CR2", "d.dng")))
    assert not any(map(is_image, ("a.txt", "jpg", "b.jpg.part", "c.xmp")))
