"""Images of benchmark data that were resized, written anew or are none do not pass for the published ones."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image
from support.published_for_tests import image_file, verdict_on, write_cifar, write_examples, write_lists

from e2vpt.benchmarks.suite.check import check_vtab
from e2vpt.benchmarks.vtab.tasks import VTAB


@pytest.mark.usefixtures("_ten_published")
def test_copies_as_jpeg(tmp_path: Path) -> None:
    write_lists(tmp_path / "cifar", image_file("JPEG", 32), 100, 10)
    check = check_vtab(tmp_path)
    cifar = verdict_on(check, "cifar100")
    assert (cifar.state, cifar.formats, check.problems) == ("differs", "JPEG", ())
    (problem,) = cifar.problems
    assert problem.startswith("1,010 of 1,010 images looked at, ")
    assert "cifar/train800-0 the first, are JPEG; the official ones are lossless PNG" in problem


@pytest.mark.usefixtures("_ten_published")
def test_resized_copies(tmp_path: Path) -> None:
    write_cifar(tmp_path, image_file("PNG", 48))
    cifar = verdict_on(check_vtab(tmp_path), "cifar100")
    assert cifar.state == "differs" and len(cifar.problems) == 1
    assert "are 48 x 48 or another size; the official ones are 32 x 32" in cifar.problems[0]


@pytest.mark.usefixtures("_ten_published")
def test_images_that_are_none(tmp_path: Path) -> None:
    write_cifar(tmp_path, b"<html>not found</html>")
    cifar = verdict_on(check_vtab(tmp_path), "cifar100")
    assert (cifar.state, cifar.counts["train"], cifar.formats) == ("broken", 800, "")
    assert "not readable (not an image in any format Pillow reads)" in cifar.problems[0]


def _jpeg(quality: int, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (40, 90, 160)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _write_textures(folder: Path, qualities: tuple[int, ...]) -> None:
    """Lists of DTD whose images were compressed with each quality in turn."""
    write_lists(folder, b"", 47, 10)
    for i, path in enumerate(sorted(folder.glob("*-*"))):
        path.unlink()
        path.write_bytes(_jpeg(qualities[i % len(qualities)]))


@pytest.mark.parametrize("quality", [75, 95, 40])
def test_lists_of_jpegs_that_one_program_wrote(
    tmp_path: Path, quality: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VTAB, "dtd", dataclasses.replace(VTAB["dtd"], test_images=10))  # type: ignore[arg-type]
    _write_textures(tmp_path / "dtd", (quality,))
    dtd = verdict_on(check_vtab(tmp_path), "dtd")
    assert dtd.state == "differs"
    assert f"same quantisation table, of quality {quality}: one program wrote them" in dtd.problems[0]
    assert "compressed once more, with quality 75 (NOAH's get_vtab1k.py)" in dtd.problems[0]


def test_lists_of_jpegs_from_many_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VTAB, "dtd", dataclasses.replace(VTAB["dtd"], test_images=10))  # type: ignore[arg-type]
    _write_textures(tmp_path / "dtd", (75, 90, 95))
    assert verdict_on(check_vtab(tmp_path), "dtd").state == "ok"


def test_what_is_no_fault_of_tfds_data_is_a_note(tmp_path: Path) -> None:
    folder, image = tmp_path / "eurosat" / "rgb" / "2.0.0", _jpeg(95, 64)
    write_examples(folder, {"train": 2000}, lambda i: {"label": [i % 10]}, image, name="eurosat")
    eurosat = verdict_on(check_vtab(tmp_path), "eurosat")
    assert not [problem for problem in eurosat.problems if "quantisation" in problem]
    (note,) = eurosat.notes
    assert "of quality 95: one program wrote them. Whether they were compressed before, files do not" in note
