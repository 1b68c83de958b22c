"""The plain way to ask, `POST /v1/predict`: images as a form or as JSON, classes and scores as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from e2vpt.serving.images import AskedImage
from e2vpt.serving.json_body import check_fields, field, from_base64, parse_object
from e2vpt.serving.refusals import Refused
from e2vpt.serving.service import AnsweredImage

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


async def parse_form(request: Request, body: bytes, most_images: int) -> PredictRequest:
    """A form: parts `images`, files; `task`, one for all or one for each image; `topk`.

    Raises:
        Refused: 400, it is none.
    """

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    reading = Request(request.scope, receive).form(
        max_files=most_images, max_fields=most_images + 1, max_part_size=_LONGEST_FIELD
    )
    try:
        async with reading as form:
            return await _from_form(form, most_images)
    except HTTPException as error:
        raise Refused(400, f"The form cannot be read: {error.detail}") from error


async def _from_form(form: FormData, most_images: int) -> PredictRequest:
    unknown = sorted(set(form) - {"images", "task", "topk"})
    if unknown:
        raise Refused(400, f"The form has a part {ascii(unknown[0])[:100]}; expected images, task, topk.")
    files = [file for file in form.getlist("images") if isinstance(file, UploadFile)]
    tasks = [task for task in form.getlist("task") if isinstance(task, str)]
    topk = form.get("topk", "1")
    if len(files) + len(tasks) + ("topk" in form) != len(form.multi_items()) or not isinstance(topk, str):
        raise Refused(400, "images are to be files, task and topk are not; topk is to be given once.")
    _check_number(len(files), most_images)
    if len(tasks) not in (1, len(files)):
        raise Refused(400, f"{len(tasks)} tasks for {len(files)} images; expected one, or one for each.")
    names = tasks * len(files) if len(tasks) == 1 else tasks
    found = [
        AskedImage(name=(file.filename or f"images[{index}]")[:200], task=task, data=await file.read())
        for index, (file, task) in enumerate(zip(files, names, strict=True))
    ]
    return _checked(found, _whole(topk))


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
