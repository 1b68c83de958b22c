"""Predictions against the model called by hand."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.tasks_for_tests import tiny_vit, write_images

from e2vpt import Preprocessing
from e2vpt.data import ImageFile, Split, eval_transform, make_loader
from e2vpt.data.sources.listing import list_folder
from e2vpt.errors import DataError, UnreadableImages
from e2vpt.runs.models.predict import find_images, predict_images, stack_probabilities

HOW = Preprocessing(
    image_size=(16, 16),
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    interpolation="bilinear",
    crop_pct=1.0,
    crop_mode="squash",
)
CLASSES = ("a", "b", "c")


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_equals_the_model_on_each_image(tmp_path: Path, batch_size: int) -> None:
    images = find_images([write_images(tmp_path, 3)])
    model = tiny_vit(torch.float32).eval()
    found = list(
        predict_images(model, images, classes=CLASSES, preprocessing=HOW, topk=2, batch_size=batch_size)
    )
    assert [p.file for p in found] == [image.name for image in images]
    whole = torch.from_numpy(stack_probabilities(model, images, HOW, batch_size))
    for image, prediction, row in zip(images, found, whole, strict=True):
        with torch.no_grad():
            expected = model(eval_transform(HOW)(image.open())[None]).softmax(1)[0]
        best = expected.argsort(descending=True)[:2]
        assert prediction.classes == tuple(CLASSES[i] for i in best.tolist())
        assert prediction.scores == pytest.approx(expected[best].tolist(), rel=1e-5)
        assert torch.allclose(row.float(), expected, rtol=1e-5)


def test_images_are_read_as_the_preprocessing_says(tmp_path: Path) -> None:
    """TensorFlow ignores alpha channels and the orientation of photos."""
    Image.effect_noise((30, 20), 90).convert("RGBA").save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.putalpha(40)
        image.save(tmp_path / "a.png")
    how = dataclasses.replace(HOW, interpolation="tensorflow-bilinear")
    images, model = find_images([tmp_path]), tiny_vit(torch.float32).eval()
    (found,) = predict_images(model, images, classes=CLASSES, preprocessing=how, topk=3)
    stored, shown = (eval_transform(how)(images[0].open(as_stored)) for as_stored in (True, False))
    with torch.no_grad():
        expected, other = model(torch.stack([stored, shown])).softmax(1)
    assert sorted(found.scores) == pytest.approx(sorted(expected.tolist()), rel=1e-5)
    assert sorted(found.scores) != pytest.approx(sorted(other.tolist()), rel=1e-3)
    whole = torch.from_numpy(stack_probabilities(model, images, how))
    assert torch.allclose(whole.float(), expected, rtol=1e-5)
    batch, _ = next(iter(make_loader(Split(images=tuple(images), labels=(0,)), how, batch_size=1)))
    assert torch.equal(batch[0], stored)


def test_every_unreadable_image_is_named_where_probabilities_are_asked_for(tmp_path: Path) -> None:
    images = find_images([write_images(tmp_path / "good", 3)])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("x")
    bad = find_images([tmp_path / "empty.png", tmp_path / "text.png"])
    with pytest.raises(UnreadableImages) as raised:
        stack_probabilities(tiny_vit(torch.float32), [bad[0], *images, bad[1]], HOW, batch_size=2)
    assert set(raised.value.problems) == {image.name for image in bad}


def test_an_unreadable_image_is_an_answer_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (9, 9)).save(tmp_path / "fine.png")
    paths = [tmp_path / name for name in ("empty.png", "fine.png", "gone.png")]
    images = [ImageFile(name=path.name, path=path) for path in paths]
    found = list(predict_images(tiny_vit(torch.float32), images, classes=CLASSES, preprocessing=HOW, topk=9))
    assert [bool(p.error) for p in found] == [True, False, True]
    assert len(found[1].classes) == 3
    assert "missing" in found[2].error


def test_finds_images_below_folders_and_takes_files_as_they_are(tmp_path: Path) -> None:
    write_images(tmp_path / "deep/er", 1)
    (tmp_path / "deep/notes.txt").touch()
    names = [Path(image.name).name for image in find_images([tmp_path / "deep", tmp_path / "any.bin"])]
    assert names == ["00.png"] * 3 + ["any.bin"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none holds no image file"):
        find_images([tmp_path / "none"])


def test_finds_what_training_finds(tmp_path: Path) -> None:
    """One walk: linked folders are followed, loops cut, system files are no images, photos to convert are."""
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for folder in (photos / "__MACOSX", photos / ".ipynb_checkpoints", photos / "a", elsewhere):
        write_images(folder, 1)
    (photos / "more").symlink_to(elsewhere)
    (photos / "a" / "loop").symlink_to(photos)
    for name in ("._00.png", "Thumbs.db", "a/IMG_1.HEIC"):
        (photos / name).write_bytes(b"x")
    found = [Path(image.name).relative_to(photos).as_posix() for image in find_images([photos])]
    assert [name for name in found if name.startswith("more/")], found
    assert {name.split("/")[0] for name in found} == {"a", "more"}
    assert "a/IMG_1.HEIC" in found
    assert found == ["/".join(parts) for parts in list_folder(photos).images()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_inside_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(DataError, match="locked"):
        find_images([tmp_path])


def test_names_are_visible_and_still_lead_to_the_file(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    odd = tmp_path / os.fsdecode(b"x\x1b]0;owned\x07\n\xff\xe2\x80\xae.png")
    next(tmp_path.rglob("*.png")).rename(odd)
    for given in (tmp_path, odd):
        image = next(image for image in find_images([given]) if "owned" in image.name)
        assert image.name == f"{tmp_path}/" + r"x\x1b]0;owned\x07\n\xff\u202e.png"
        image.open()
