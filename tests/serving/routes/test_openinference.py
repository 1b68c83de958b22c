"""Triton's own client, unchanged: lists, checks, infers in JSON and binary, loads and unloads."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from support.serving_for_tests import AS_ADMIN, AS_CLIENT, RunningServer, encoded_image, offline
from tritonclient.utils import InferenceServerException

import e2vpt


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def images_tensor(images: list[bytes], *, binary: bool, shape: list[int] | None = None) -> triton.InferInput:
    data = images if binary else [base64.b64encode(image) for image in images]
    array = np.array(data, dtype=np.object_).reshape(shape or [len(images)])
    tensor = triton.InferInput("images", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def by_index(adapter: Path, image: bytes) -> list[float]:
    """Offline scores in the order of the classes."""
    classes, scores = offline(adapter, image)
    found = dict(zip(classes, scores, strict=True))
    return [found[name] for name in e2vpt.read_adapter(adapter).classes]


def test_it_lists_and_checks(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata() == {
        "name": "e2vpt",
        "version": e2vpt.__version__,
        "extensions": ["binary_tensor_data", "classification", "model_repository"],
    }
    assert client.is_model_ready("task1", headers=AS_CLIENT)
    assert not client.is_model_ready("nothing", headers=AS_CLIENT)
    assert client.get_model_metadata("task1", headers=AS_CLIENT) == {
        "name": "task1",
        "versions": ["1"],
        "platform": "e2vpt",
        "inputs": [{"name": "images", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }
    index = client.get_model_repository_index(headers=AS_CLIENT)
    assert {row["name"]: row["state"] for row in index} == {f"task{i}": "READY" for i in range(6)}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_it_infers(
    client: triton.InferenceServerClient,
    adapters: dict[str, Path],
    binary_in: bool,
    binary_out: bool,
    shape: list[int],
) -> None:
    images = [encoded_image(1), encoded_image(2, kind="JPEG")]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("logits", "scores")]
    result = client.infer(
        "task2",
        [images_tensor(images, binary=binary_in, shape=shape)],
        request_id="a 1",
        outputs=outputs,
        headers=dict(AS_CLIENT),
    )
    wanted = np.array([by_index(adapters["task2"], image) for image in images])
    scores, logits = result.as_numpy("scores"), result.as_numpy("logits")
    assert scores.dtype == logits.dtype == np.float32
    assert np.abs(scores - wanted).max() < 1e-5
    raised = np.exp(logits.astype(np.float64))
    assert np.abs(raised / raised.sum(1, keepdims=True) - wanted).max() < 1e-5
    described = result.get_response()
    assert (described["id"], described["model_name"]) == ("a 1", "task2")


def test_it_gets_all_outputs_when_it_names_none(
    client: triton.InferenceServerClient, adapters: dict[str, Path]
) -> None:
    image = encoded_image(1)
    result = client.infer("task0", [images_tensor([image], binary=True)], headers=dict(AS_CLIENT))
    wanted = by_index(adapters["task0"], image)
    assert np.abs(result.as_numpy("scores") - wanted).max() < 1e-5
    assert result.as_numpy("logits").shape == (1, len(wanted))


@pytest.mark.parametrize("binary", [True, False])
def test_it_gets_classes(
    client: triton.InferenceServerClient, adapters: dict[str, Path], binary: bool
) -> None:
    images = [encoded_image(1), encoded_image(2)]
    result = client.infer(
        "task3",
        [images_tensor(images, binary=True)],
        outputs=[triton.InferRequestedOutput("scores", binary_data=binary, class_count=2)],
        headers=dict(AS_CLIENT),
    )
    found = result.as_numpy("scores")
    assert found.shape == (2, 2)
    order = e2vpt.read_adapter(adapters["task3"]).classes
    for row, image in zip(found, images, strict=True):
        classes, scores = offline(adapters["task3"], image, 2)
        for text, name, score in zip(row, classes, scores, strict=True):
            value, index, label = (text.decode() if binary else text).split(":", 2)
            assert (label, order[int(index)]) == (name, name)
            assert abs(float(value) - score) < 1e-5


def test_it_unloads_and_loads(client: triton.InferenceServerClient) -> None:
    client.unload_model("task5", headers=AS_ADMIN)
    try:
        assert not client.is_model_ready("task5", headers=AS_CLIENT)
        index = {row["name"]: row for row in client.get_model_repository_index(headers=AS_CLIENT)}
        assert (index["task5"]["state"], index["task5"]["reason"]) == ("UNAVAILABLE", "unloaded")
        with pytest.raises(InferenceServerException, match="'task5' is not loaded: unloaded") as error:
            client.infer("task5", [images_tensor([encoded_image(0)], binary=True)], headers=dict(AS_CLIENT))
        assert error.value.status() == "404"
    finally:
        client.load_model("task5", headers=AS_ADMIN)
    assert client.is_model_ready("task5", headers=AS_CLIENT)


def test_the_index_of_those_that_are_ready(server: RunningServer) -> None:
    with server.client(AS_ADMIN) as http:
        assert http.post("/v2/repository/models/task4/unload").status_code == 200
        try:
            ready = http.post("/v2/repository/index", json={"ready": True}).json()
        finally:
            assert http.post("/v2/repository/models/task4/load", content=b"").status_code == 200
    assert [row["name"] for row in ready] == ["task0", "task1", "task2", "task3", "task5"]


def test_changes_need_the_admin_token(client: triton.InferenceServerClient) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="an admin token of this server") as error:
            change("task1", headers=AS_CLIENT)
        assert error.value.status() == "401"
    with pytest.raises(InferenceServerException, match="PUT /v1/tasks/NAME uploads"):
        client.load_model("task1", headers=AS_ADMIN, config=json.dumps({"backend": "python"}))


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"inputs": []}, 400, "expected one tensor, 'images'"),
        ({"inputs": [{"name": "images", "datatype": "FP32", "shape": [1], "data": [1]}]}, 400, "BYTES"),
        (
            {"inputs": [{"name": "images", "datatype": "BYTES", "shape": [2], "data": ["AAAA"]}]},
            400,
            "2 texts",
        ),
        ({"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": [[[]]]}]}, 400, "1 texts"),
        ({"inputs": [{"name": "images", "datatype": "BYTES", "shape": [65], "data": []}]}, 400, "1 to 64"),
        ({"inputs": [{"name": "images", "datatype": "BYTES", "shape": [True], "data": []}]}, 400, "1 to 64"),
        ({"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": ["$"]}]}, 400, "base64"),
        ({"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}]}, 422, "image"),
        ({"outputs": [{"name": "nothing"}]}, 400, "none of logits, scores"),
        ({"outputs": [{"name": "scores"}] * 2}, 400, "one output twice"),
        ({"outputs": [{"name": "scores", "datatype": "FP64"}]}, 400, "outputs[0] has no field 'datatype'"),
        ({"outputs": [{"name": "scores", "parameters": {"classification": -1}}]}, 400, "classification"),
        (
            {"outputs": [{"name": "scores", "parameters": {"shared_memory_region": "a"}}]},
            400,
            "shared memory",
        ),
        ({"parameters": {"timeout": -1}}, 400, "timeout"),
        ({"parameters": {"timeout": 1}}, 504, "deadline"),
        ({"id": 7}, 400, "id is of type int"),
        ({"id": "\ud800"}, 400, "surrogate"),
        ({"id": "x" * 257}, 400, "at most 256"),
        ({"other": 1}, 400, "no field 'other'"),
    ],
)
def test_requests_that_are_none(
    server: RunningServer, change: dict[str, Any], status: int, reason: str
) -> None:
    data = base64.b64encode(encoded_image(1)).decode()
    good = {"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": [data]}]}
    with server.client() as http:
        answer = http.post("/v2/models/task0/infer", content=json.dumps(good | change))
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert reason in answer.json()["error"]
