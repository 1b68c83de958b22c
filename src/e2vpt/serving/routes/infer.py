"""The infer request and answer of the Open Inference Protocol, version 2, without HTTP.

One input `images`: BYTES [n] or [n, 1], encoded images; in JSON base64, in the binary form as they are.
Outputs `logits` and `scores`: FP32 [n, C], or with the parameter `classification` k BYTES [n, k],
"value:index:label".
Sources: https://github.com/kserve/open-inference-protocol; Triton's extensions classification and
binary_tensor_data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from e2vpt.serving.refusals import Refused
from e2vpt.serving.service import AnsweredImage
from e2vpt.serving.wire.binary import read_strings, split_body, write_strings
from e2vpt.serving.wire.json_body import check_fields, dumped, field, from_base64, parse_object

INPUT = "images"
OUTPUTS = ("logits", "scores")
_MAX_ID = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedOutput:
    """An output that a client asked for.

    Attributes:
        name: of `OUTPUTS`.
        num_classes: how many of the best to name; 0 for the tensor itself.
        is_binary: whether it follows the JSON.
    """

    name: str
    num_classes: int = 0
    is_binary: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    """An infer request.

    Attributes:
        id: what the answer repeats.
        images: encoded.
        outputs: what to answer.
        timeout: seconds that the client waits, if it says so.
    """

    id: str
    images: list[bytes]
    outputs: list[WantedOutput]
    timeout: float | None


def parse_infer(body: bytes, json_length: str | None, most_images: int) -> InferRequest:
    """A request's body.

    Raises:
        Refused: 400, it is none.
    """
    head, tail = split_body(body, json_length)
    asked = parse_object(head)
    check_fields(asked, ("id", "parameters", "inputs", "outputs"), "The request")
    parameters = field(asked, "parameters", dict, {})
    name = field(asked, "id", str, "")
    if len(name) > _MAX_ID:
        raise Refused(400, f"id has {len(name)} characters; at most {_MAX_ID}.")
    inputs = field(asked, "inputs", list, [])
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, f"inputs has {len(inputs)} elements; expected one tensor, {INPUT!r}.")
    return InferRequest(
        id=name,
        images=_images(inputs[0], tail, most_images),
        outputs=_outputs(field(asked, "outputs", list, []), parameters),
        timeout=_timeout(parameters),
    )


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """Triton's: microseconds, 0 for none."""
    microseconds = field(parameters, "timeout", int, 0, "parameters")
    if not 0 <= microseconds < 2**53:
        raise Refused(400, "parameters.timeout is out of range; expected microseconds, 0 for none.")
    return microseconds / 1e6 if microseconds else None


def _images(tensor: Mapping[str, Any], tail: bytes, most: int) -> list[bytes]:
    check_fields(tensor, ("name", "shape", "datatype", "parameters", "data"), "inputs[0]")
    if tensor.get("name") != INPUT or tensor.get("datatype") != "BYTES":
        raise Refused(400, f"inputs[0] is not the tensor {INPUT!r} of datatype BYTES, encoded images.")
    count = _count(field(tensor, "shape", list, [], "inputs[0]"), most)
    parameters = field(tensor, "parameters", dict, {}, "inputs[0]")
    if any(key.startswith("shared_memory") for key in parameters):
        raise Refused(400, "inputs[0] is in shared memory, which this server does not read. Send the bytes.")
    size = field(parameters, "binary_data_size", int, None, "inputs[0].parameters")
    if size is not None:
        if size != len(tail) or "data" in tensor:
            raise Refused(400, f"binary_data_size is {str(size)[:20]}; {len(tail)} bytes follow the JSON.")
        return read_strings(tail, count)
    if tail:
        raise Refused(400, f"{len(tail)} bytes follow the JSON, and inputs[0] has no binary_data_size.")
    data = field(tensor, "data", list, [], "inputs[0]")
    if all(isinstance(value, list) and len(value) == 1 for value in data):  # [n, 1]
        data = [value[0] for value in data]
    if len(data) != count or not all(isinstance(value, str) for value in data):
        raise Refused(400, f"inputs[0].data is not a list of {count} texts, base64 of image files.")
    return [from_base64(value, f"inputs[0].data[{index}]") for index, value in enumerate(data)]


def _count(shape: list[Any], most: int) -> int:
    """Images of a tensor [n] or [n, 1]."""
    fits = len(shape) in (1, 2) and all(type(side) is int for side in shape) and shape[1:] in ([], [1])
    if not fits or not 1 <= shape[0] <= most:
        raise Refused(
            400, f"inputs[0].shape is {str(shape)[:60]}; expected [n] or [n, 1], n from 1 to {most}."
        )
    return int(shape[0])


def _outputs(asked: list[Any], parameters: Mapping[str, Any]) -> list[WantedOutput]:
    is_binary = field(parameters, "binary_data_output", bool, False, "parameters")
    if not asked:
        num = _classification(parameters, "parameters")
        return [WantedOutput(name=name, num_classes=num, is_binary=is_binary) for name in OUTPUTS]
    found = []
    for index, output in enumerate(asked):
        where = f"outputs[{index}]"
        if not isinstance(output, dict) or output.get("name") not in OUTPUTS:
            raise Refused(400, f"{where} is none of {', '.join(OUTPUTS)}.")
        check_fields(output, ("name", "parameters"), where)
        own = field(output, "parameters", dict, {}, where)
        if any(key.startswith("shared_memory") for key in own):
            raise Refused(400, f"{where} is to go to shared memory, which this server does not write.")
        found.append(
            WantedOutput(
                name=output["name"],
                num_classes=_classification({**parameters, **own}, f"{where}.parameters"),
                is_binary=field(own, "binary_data", bool, is_binary, where),
            )
        )
    if len({output.name for output in found}) != len(found):
        raise Refused(400, "outputs names one output twice.")
    return found


def _classification(parameters: Mapping[str, Any], where: str) -> int:
    num = field(parameters, "classification", int, 0, where)
    if not 0 <= num < 2**31:
        raise Refused(400, f"{where}.classification is out of range; expected how many classes to name.")
    return int(num)


def infer_answer(
    task: str, request: InferRequest, answers: Sequence[AnsweredImage]
) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON where tensors follow."""
    outputs, parts = [], []
    for wanted in request.outputs:
        described, raw = _output(wanted, answers)
        outputs.append(described)
        parts += [raw] if wanted.is_binary else []
    content = {"model_name": task, "model_version": "1", "outputs": outputs}
    head = dumped(({"id": request.id} if request.id else {}) | content)
    return head + b"".join(parts), len(head) if parts else None


def _output(wanted: WantedOutput, answers: Sequence[AnsweredImage]) -> tuple[dict[str, Any], bytes]:
    rows: list[Tensor] = [getattr(answer, wanted.name) for answer in answers]
    if wanted.num_classes:
        texts = [
            text
            for row, answer in zip(rows, answers, strict=True)
            for text in _named(row, answer.info.classes, wanted.num_classes)
        ]
        shape, datatype = [len(rows), len(texts) // len(rows)], "BYTES"
        data: list[Any] = texts
        raw = write_strings([text.encode() for text in texts]) if wanted.is_binary else b""
    else:
        values = torch.stack(rows)
        shape, datatype = list(values.shape), "FP32"
        data = [] if wanted.is_binary else values.flatten().tolist()
        raw = values.numpy().astype("<f4").tobytes() if wanted.is_binary else b""
    assert math.prod(shape) == len(data) or wanted.is_binary
    described = {"name": wanted.name, "datatype": datatype, "shape": shape}
    if wanted.is_binary:
        return described | {"parameters": {"binary_data_size": len(raw)}}, raw
    return described | {"data": data}, raw


def _named(row: Tensor, classes: Sequence[str], num: int) -> list[str]:
    values, indices = row.topk(min(num, len(classes)))
    pairs = zip(values.tolist(), indices.tolist(), strict=True)
    return [f"{value:.6f}:{index}:{classes[index]}" for value, index in pairs]
