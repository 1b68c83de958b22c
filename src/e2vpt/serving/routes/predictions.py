"""The plain way to ask, `POST /v1/predict`: images as a form or as JSON, classes and scores as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from e2vpt.serving.images import AskedImage
from e2vpt.serving.refusals import Refused
from e2vpt.serving.service import AnsweredImage
from e2vpt.serving.wire.forms import FormPart, parse_parts
from e2vpt.serving.wire.json_body import check_fields, field, from_base64, parse_object

_LONGEST_FIELD = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictRequest:
    """Images, each with its task, and how many classes to name."""

    images: list[AskedImage]
    topk: int


def parse_predict(body: bytes, most_images: int) -> PredictRequest:
    """A JSON body: `images`, each an object of `data` (base64), `task` and `name`; `task` for those without.

    Raises:
        Refused: 400, it is none.
    """
    asked = parse_object(body)
    check_fields(asked, ("task", "images", "topk"), "The request")
    task, images = field(asked, "task", str, ""), field(asked, "images", list, [])
    _check_number(len(images), most_images)
    found = []
    for index, image in enumerate(images):
        where = f"images[{index}]"
        if not isinstance(image, dict):
            raise Refused(400, f"{where} is of type {type(image).__name__}; expected an object.")
        check_fields(image, ("data", "task", "name"), where)
        data = from_base64(field(image, "data", str, "", where), f"{where}.data")
        name = field(image, "name", str, where, where)
        found.append(AskedImage(name=name[:200], task=field(image, "task", str, task, where), data=data))
    return _checked(found, field(asked, "topk", int, 1))


def parse_form(body: bytes, content_type: str, most_images: int) -> PredictRequest:
    """A form: parts `images`, files; `task`, one for all or one for each image; `topk`.

    Raises:
        Refused: 400, it is none.
    """
    parts = parse_parts(body, content_type, 2 * most_images + 1)
    files = [part for part in parts if part.name == "images" and part.file is not None]
    tasks = [_text(part) for part in parts if part.name == "task" and part.file is None]
    counts = [_text(part) for part in parts if part.name == "topk" and part.file is None]
    if len(files) + len(tasks) + len(counts) != len(parts) or len(counts) > 1:
        raise Refused(400, "A form has files called images, and task and topk, which are no files.")
    _check_number(len(files), most_images)
    if len(tasks) not in (1, len(files)):
        raise Refused(400, f"{len(tasks)} tasks for {len(files)} images; expected one, or one for each.")
    found = [
        AskedImage(name=(file.file or f"images[{index}]")[:200], task=task, data=bytes(file.data))
        for index, (file, task) in enumerate(zip(files, tasks * (len(files) // len(tasks)), strict=True))
    ]
    return _checked(found, _whole(counts[0] if counts else "1"))


def _text(part: FormPart) -> str:
    try:
        return part.data[:_LONGEST_FIELD].decode()
    except UnicodeDecodeError as error:
        raise Refused(400, f"{part.name} is no text in UTF-8.") from error


def prediction_rows(request: PredictRequest, answers: Sequence[AnsweredImage]) -> list[dict[str, Any]]:
    """An object for each image, with the keys of `e2vpt predict --json` and its task."""
    rows = []
    for image, answer in zip(request.images, answers, strict=True):
        classes = answer.info.classes
        values, indices = answer.scores.topk(min(request.topk, len(classes)))
        rows.append(
            {
                "file": image.name,
                "task": image.task,
                "classes": [classes[index] for index in indices.tolist()],
                "scores": values.tolist(),
            }
        )
    return rows


def _checked(images: list[AskedImage], topk: int) -> PredictRequest:
    if not 1 <= topk < 2**31:
        raise Refused(400, "topk is out of range; expected how many classes to name.")
    for image in images:
        if not image.task:
            raise Refused(400, "An image has no task. Give `task` for all, or one for each image.")
    return PredictRequest(images=images, topk=topk)


def _check_number(num: int, most: int) -> None:
    if not 1 <= num <= most:
        raise Refused(400, f"{num} images; expected 1 to {most}.")


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Refused(400, f"topk is {ascii(text)[:60]}; expected a whole number.")
    return int(text)
