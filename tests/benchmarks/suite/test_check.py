"""A directory of benchmark data is what was published, or what is not is said, one thing at a time."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image
from support import tfds_for_tests as written
from support.fgvc_for_tests import write_cub, write_dogs, write_flowers, write_vpt_json

from e2vpt.benchmarks.fgvc import read as fgvc
from e2vpt.benchmarks.fgvc.read import FGVC
from e2vpt.benchmarks.suite.check import Check, Checked, check_fgvc_sets, check_markdown, check_vtab
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.errors import DataError

_CIFAR = {"train": 2000, "test": 10}
_KITTI = {"train": 800, "validation": 200, "test": 711}


def _image(format: str, side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (40, 90, 160)).save(file, format)
    return file.getvalue()


def _jpeg(quality: int, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (40, 90, 160)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _street(i: int) -> dict[str, written.Value]:
    """A car at 5, 15 or 25 m, or nothing."""
    if i % 4 == 3:
        return {"objects/type": [], "objects/location": []}
    return {"objects/type": [0], "objects/location": [0.0, 0.0, (5.0, 15.0, 25.0)[i % 4]]}


def _write(
    folder: Path,
    counts: Mapping[str, int],
    features: Callable[[int], dict[str, written.Value]],
    image: bytes,
    name: str = "",
) -> Path:
    splits = {
        split: [[written.example({"image": image} | features(i)) for i in range(count)]]
        for split, count in counts.items()
    }
    return written.write_prepared(folder, name or folder.parent.name, splits)


def _write_cifar(root: Path, image: bytes, classes: int = 100) -> Path:
    return _write(root / "cifar100" / "3.0.2", _CIFAR, lambda i: {"label": [i % classes]}, image)


def _write_lists(folder: Path, image: bytes, classes: int, test: int) -> None:
    folder.mkdir(parents=True)
    (folder / "one").write_bytes(image)
    for name, count in (("train800", 800), ("val200", 200), ("test", test)):
        for i in range(count):
            (folder / f"{name}-{i}").symlink_to("one")
        lines = [f"{name}-{i} {i % classes}" for i in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KITTI with as many images as VTAB-1k takes of it, and CIFAR-100 with ten to test on."""
    root = tmp_path_factory.mktemp("tfds")
    _write(root / "kitti" / "3.2.0", _KITTI, _street, _image("PNG", 2))
    _write_cifar(root, _image("PNG", 32))
    return root


@pytest.fixture
def copy(directory: Path, tmp_path: Path) -> Path:
    """The same, to damage."""
    return shutil.copytree(directory, tmp_path / "copy")


@pytest.fixture
def _ten_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ten were all the test images that CIFAR-100 has."""
    monkeypatch.setitem(VTAB, "cifar100", dataclasses.replace(VTAB["cifar100"], test_images=10))  # type: ignore[arg-type]


def _of(check: Check, name: str) -> Checked:
    return next(task for task in check.tasks if task.name == name)


@pytest.mark.usefixtures("_ten_published")
def test_as_published(directory: Path) -> None:
    heard: list[str] = []
    check = check_vtab(str(directory), on_task=heard.append)
    assert [task.name for task in check.tasks] == heard == list(VTAB)
    assert _of(check, "kitti_distance") == Checked(
        name="kitti_distance",
        group="structured",
        state="ok",
        source="tfds",
        counts={"train": 800, "val": 200, "test": 711},
        num_classes=4,
        formats="PNG",
    )
    assert _of(check, "cifar100").state == "ok" and check.problems == ()


def test_some_tasks_are_missing(directory: Path) -> None:
    check = check_vtab(directory)
    missing = [task for task in check.tasks if task.state == "missing"]
    assert len(missing) == 17 and not check.right
    sun, clevr = _of(check, "sun397"), _of(check, "clevr_distance")
    assert (sun.source, sun.counts, sun.num_classes, sun.formats) == ("", {}, 0, "")
    assert sun.problems == (
        f"no data; expected in {directory}/sun397/tfds or {directory}/sun397. Prepare or copy it there.",
    )
    assert f"{directory}/clevr or {directory}/clevr_dist or {directory}/clevr_distance." in clevr.problems[0]


def test_fewer_images_than_published(directory: Path) -> None:
    cifar = _of(check_vtab(directory), "cifar100")
    assert (cifar.state, cifar.counts["test"]) == ("differs", 10)
    assert cifar.problems == (
        "test has 10 images; published are 10,000. Is it the official data, and all of it?",
    )


def test_a_payload_that_is_not_what_was_written(copy: Path) -> None:
    shard = copy / "kitti" / "3.2.0" / "kitti-test.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[-10] ^= 1
    shard.write_bytes(content)
    check = check_vtab(copy)
    kitti = _of(check, "kitti_distance")
    assert (kitti.state, kitti.source, kitti.counts) == ("broken", "", {})
    assert "does not match its checksum. Download, copy or prepare" in kitti.problems[0]
    assert _of(check, "cifar100").state == "differs"


def test_a_truncated_shard(copy: Path) -> None:
    shard = copy / "kitti" / "3.2.0" / "kitti-validation.tfrecord-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-30])
    kitti = _of(check_vtab(copy), "kitti_distance")
    assert kitti.state == "broken" and "is truncated" in kitti.problems[0]


def test_a_folder_without_its_data(copy: Path) -> None:
    (copy / "kitti" / "3.2.0" / "dataset_info.json").unlink()
    kitti = _of(check_vtab(copy), "kitti_distance")
    assert kitti.state == "broken" and str(copy / "kitti") in kitti.problems[0]


def test_one_task_from_two_sources(copy: Path) -> None:
    _write_lists(copy / "cifar", _image("PNG", 32), 100, 10)
    cifar = _of(check_vtab(copy), "cifar100")
    assert cifar.state == "broken" and "both image lists" in cifar.problems[0]


@pytest.mark.usefixtures("_ten_published")
def test_tasks_from_several_sources(copy: Path) -> None:
    shutil.rmtree(copy / "cifar100")
    _write_lists(copy / "cifar", _image("PNG", 32), 100, 10)
    check = check_vtab(copy)
    assert _of(check, "cifar100").state == _of(check, "kitti_distance").state == "ok"
    assert _of(check, "cifar100").source == "image lists"
    (problem,) = check.problems
    assert "(image lists: cifar100; tfds: kitti_distance). Take one for all" in problem
    assert not dataclasses.replace(check, tasks=check.tasks[:1]).right


@pytest.mark.usefixtures("_ten_published")
def test_copies_as_jpeg(tmp_path: Path) -> None:
    _write_lists(tmp_path / "cifar", _image("JPEG", 32), 100, 10)
    check = check_vtab(tmp_path)
    cifar = _of(check, "cifar100")
    assert (cifar.state, cifar.formats, check.problems) == ("differs", "JPEG", ())
    (problem,) = cifar.problems
    assert problem.startswith("1,010 of 1,010 images looked at, ")
    assert "cifar/train800-0 the first, are JPEG; the official ones are lossless PNG" in problem


@pytest.mark.usefixtures("_ten_published")
def test_resized_copies(tmp_path: Path) -> None:
    _write_cifar(tmp_path, _image("PNG", 48))
    cifar = _of(check_vtab(tmp_path), "cifar100")
    assert cifar.state == "differs" and len(cifar.problems) == 1
    assert "are 48 x 48 or another size; the official ones are 32 x 32" in cifar.problems[0]


@pytest.mark.usefixtures("_ten_published")
def test_images_that_are_none(tmp_path: Path) -> None:
    _write_cifar(tmp_path, b"<html>not found</html>")
    cifar = _of(check_vtab(tmp_path), "cifar100")
    assert (cifar.state, cifar.counts["train"], cifar.formats) == ("broken", 800, "")
    assert "not readable (not an image in any format Pillow reads)" in cifar.problems[0]


@pytest.mark.usefixtures("_ten_published")
def test_classes_without_images(tmp_path: Path) -> None:
    _write_cifar(tmp_path, _image("PNG", 32), classes=97)
    cifar = _of(check_vtab(tmp_path), "cifar100")
    assert cifar.state == "differs"
    assert cifar.problems == ("3 of 100 classes have no image in any split. Is it the official data?",)


def test_classes_without_training_images_are_no_problem(tmp_path: Path) -> None:
    splits = {
        split: [[written.example({"image": _image("PNG", 2)} | _street(i % rows)) for i in range(count)]]
        for (split, count), rows in zip(_KITTI.items(), (3, 4, 4), strict=True)
    }
    written.write_prepared(tmp_path / "kitti" / "3.3.0", "kitti", splits)
    kitti = _of(check_vtab(tmp_path), "kitti_distance")
    assert (kitti.state, kitti.problems) == ("ok", ())
    assert kitti.notes == ("1 of 4 classes have no training image, as the draw came out.",)


def test_nothing_there(tmp_path: Path) -> None:
    for nothing in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"holds no task of VTAB-1k\. Looked for cifar100 in .* or cifar"):
            check_vtab(nothing)
    with pytest.raises(DataError, match="holds none of the FGVC data sets"):
        check_fgvc_sets(tmp_path)


def _write_textures(folder: Path, qualities: tuple[int, ...]) -> None:
    """Lists of DTD whose images were compressed with each quality in turn."""
    _write_lists(folder, b"", 47, 10)
    for i, path in enumerate(sorted(folder.glob("*-*"))):
        path.unlink()
        path.write_bytes(_jpeg(qualities[i % len(qualities)]))


@pytest.mark.parametrize("quality", [75, 95, 40])
def test_lists_of_jpegs_that_one_program_wrote(
    tmp_path: Path, quality: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VTAB, "dtd", dataclasses.replace(VTAB["dtd"], test_images=10))  # type: ignore[arg-type]
    _write_textures(tmp_path / "dtd", (quality,))
    dtd = _of(check_vtab(tmp_path), "dtd")
    assert dtd.state == "differs"
    assert f"same quantisation table, of quality {quality}: one program wrote them" in dtd.problems[0]
    assert "compressed once more, with quality 75 (NOAH's get_vtab1k.py)" in dtd.problems[0]


def test_lists_of_jpegs_from_many_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VTAB, "dtd", dataclasses.replace(VTAB["dtd"], test_images=10))  # type: ignore[arg-type]
    _write_textures(tmp_path / "dtd", (75, 90, 95))
    assert _of(check_vtab(tmp_path), "dtd").state == "ok"


def test_what_is_no_fault_of_tfds_data_is_a_note(tmp_path: Path) -> None:
    folder, image = tmp_path / "eurosat" / "rgb" / "2.0.0", _jpeg(95, 64)
    _write(folder, {"train": 2000}, lambda i: {"label": [i % 10]}, image, name="eurosat")
    eurosat = _of(check_vtab(tmp_path), "eurosat")
    assert not [problem for problem in eurosat.problems if "quantisation" in problem]
    (note,) = eurosat.notes
    assert "of quality 95: one program wrote them. Whether they were compressed before, files do not" in note


@pytest.fixture
def birds_and_dogs(tmp_path: Path) -> Path:
    """Two of the five data sets, of three classes each."""
    write_cub(tmp_path / "CUB_200_2011")
    write_dogs(tmp_path / "stanford-dogs")
    return tmp_path


def test_small_fgvc_data(birds_and_dogs: Path) -> None:
    heard: list[str] = []
    check = check_fgvc_sets(str(birds_and_dogs), on_task=heard.append)
    assert [task.name for task in check.tasks] == heard == list(FGVC)
    states = [task.state for task in check.tasks]
    assert states == ["differs", "missing", "missing", "differs", "missing"]
    cub, nabirds = check.tasks[:2]
    assert (cub.group, cub.source, cub.num_classes, cub.formats) == ("fgvc", "archives", 3, "JPEG")
    assert cub.counts == {"train": 27, "val": 3, "test": 6}
    assert cub.problems[0] == "3 classes; published are 200." and len(cub.problems) == 4
    assert nabirds.problems == ("no data; expected a folder nabirds. Unpack it there.",)


def test_fgvc_as_published(birds_and_dogs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"train": 27, "val": 3, "test": 6}
    small = dataclasses.replace(fgvc.DATA_SETS["cub-200-2011"], classes=3, images=sizes)
    monkeypatch.setitem(fgvc.DATA_SETS, "cub-200-2011", small)  # type: ignore[arg-type]
    cub = _of(check_fgvc_sets(birds_and_dogs), "cub-200-2011")
    assert (cub.state, cub.problems) == ("ok", ())


def test_fgvc_with_an_image_missing(birds_and_dogs: Path) -> None:
    images = sorted((birds_and_dogs / "CUB_200_2011" / "images").rglob("*.jpg"))
    images[0].unlink()
    cub = _of(check_fgvc_sets(birds_and_dogs), "cub-200-2011")
    assert cub.state == "broken" and images[0].name in cub.problems[0]
    images[0].write_bytes(b"")
    cub = _of(check_fgvc_sets(birds_and_dogs), "cub-200-2011")
    assert (cub.state, cub.counts["test"]) == ("broken", 6)
    assert "not readable (the file is empty (0 bytes))" in cub.problems[0]


def test_fgvc_splits_that_part_from_the_official_ones(tmp_path: Path) -> None:
    images = sorted(write_flowers(tmp_path / "flowers"))
    labels = {path: (0, 1, 2)[i % 3] for i, path in enumerate(images)}
    splits = {"train": images[:9], "val": images[9:18], "test": images[18:]}
    write_vpt_json(
        tmp_path / "flowers",
        {split: {path: labels[path] for path in paths} for split, paths in splits.items()},
    )
    flowers = _of(check_fgvc_sets(tmp_path), "oxford-flowers")
    assert flowers.counts == {"train": 9, "val": 9, "test": 6}
    assert flowers.problems[-1].startswith("test.json lacks 6 images of the official test split")


def test_a_table_and_what_is_wrong() -> None:
    counts = {"train": 800, "val": 200, "test": 21750}
    sun = Checked(
        name="sun397",
        group="natural",
        state="ok",
        source="tfds",
        counts=counts,
        num_classes=397,
        formats="JPEG",
        notes=("12 of 397 classes have no training image.",),
    )
    dtd = Checked(name="dtd", group="natural", state="broken", problems=("dtd is damaged:\n  one\n  two",))
    check = Check(tasks=(sun, dtd), problems=("Several sources.",))
    assert check_markdown(check) == [
        "| task | source | train | val | test | classes | format | verdict |",
        "|---|---|---|---|---|---|---|---|",
        "| sun397 | tfds | 800 | 200 | 21,750 | 397 | JPEG | ok |",
        "| dtd |  |  |  |  |  |  | broken |",
        "",
        "* Several sources.",
        "* dtd: dtd is damaged:\n    one\n    two",
        "* sun397, note: 12 of 397 classes have no training image.",
    ]
    clean = Check(tasks=(dataclasses.replace(sun, notes=()),))
    assert clean.right and len(check_markdown(clean)) == 3


def test_directories_that_cannot_be_looked_at(tmp_path: Path) -> None:
    for odd in ("x" * 300, "a\0b"):
        with pytest.raises(DataError, match="Cannot look at"):
            check_vtab(tmp_path / odd)
    with pytest.raises(DataError, match=r"\\x1b\[2J holds no task"):
        check_vtab(tmp_path / "\x1b[2J")
