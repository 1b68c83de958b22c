"""Tasks uploaded, replaced, listed and deleted while the server runs; metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.serving_for_tests import (
    AS_ADMIN,
    RunningServer,
    encoded_image,
    make_adapter,
    make_service,
    offline,
    running_server,
)

from e2vpt.errors import RunError
from e2vpt.serving import metrics, store
from e2vpt.serving.catalogue import name_problem

PNG = encoded_image(0)
DAMAGED = " is damaged or not an e2vpt file: "


def classes_of(server: RunningServer, task: str) -> tuple[str, ...] | int:
    """What a task says of an image, or the status of a refusal."""
    with server.client(AS_ADMIN) as client:
        answer = client.post("/v1/predict", files={"images": PNG}, data={"task": task, "topk": "9"})
    if answer.status_code != 200:
        return answer.status_code
    return tuple(answer.json()["predictions"][0]["classes"])


def test_a_task_comes_changes_and_goes(adapters: dict[str, Path], tmp_path: Path) -> None:
    first, second = (make_adapter(tmp_path / f"{seed}", seed) for seed in (20, 21))
    store = tmp_path / "store"
    with (
        running_server(make_service(adapters, store=store)) as server,
        server.client(AS_ADMIN) as client,
    ):
        assert classes_of(server, "new") == 404
        new = client.put("/v1/tasks/new", content=first.read_bytes())
        assert (new.status_code, new.json()["classes"]) == (201, ["class 20-0", "class 20-1"])
        assert classes_of(server, "new") == offline(first, PNG)[0]
        assert client.put("/v1/tasks/new", content=second.read_bytes()).status_code == 200
        assert classes_of(server, "new") == offline(second, PNG)[0]
        assert client.put("/v1/tasks/task0", content=first.read_bytes()).status_code == 200
        assert client.put("/v1/tasks/Blüte 2", content=first.read_bytes()).status_code == 201
        assert classes_of(server, "Blüte 2") == offline(first, PNG)[0]
        assert client.delete("/v1/tasks/Blüte 2").status_code == 204
        assert client.delete("/v1/tasks/Blüte 2").status_code == 404
        assert client.delete("/v1/tasks/task1").status_code == 204
        assert classes_of(server, "task1") == 404
        listed = {row["name"]: row for row in client.get("/v1/tasks").json()["tasks"]}
        assert list(listed) == ["task0", "task2", "task3", "task4", "task5", "new"]
        assert listed["new"]["bytes"] == second.stat().st_size
    assert adapters["task1"].exists()
    # After a restart: uploads in place of the command line's files, and what was not uploaded is back.
    with running_server(make_service(adapters, store=store)) as server:
        assert classes_of(server, "new") == offline(second, PNG)[0]
        assert classes_of(server, "task0") == offline(first, PNG)[0]
        assert classes_of(server, "task1") == offline(adapters["task1"], PNG)[0]
        assert classes_of(server, "Blüte 2") == 404


def test_a_store_with_a_damaged_file_serves_the_others(adapters: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    with running_server(make_service({}, store=store)) as server, server.client(AS_ADMIN) as client:
        for name in ("task1", "task2"):
            assert client.put(f"/v1/tasks/{name}", content=adapters[name].read_bytes()).status_code == 201
        damaged = server.service.catalogue.known["task1"].path
        damaged.write_bytes(damaged.read_bytes()[:-1])
        answer = client.post("/v2/repository/models/task1/load")
        assert (answer.status_code, f"Its file{DAMAGED}" in answer.json()["error"]) == (422, True)
        assert classes_of(server, "task1") == offline(adapters["task1"], PNG)[0]
    with running_server(make_service({}, store=store)) as server, server.client(AS_ADMIN) as client:
        assert classes_of(server, "task1") == 404
        assert classes_of(server, "task2") == offline(adapters["task2"], PNG)[0]
        listed = client.get("/v1/tasks").json()["tasks"]
        assert [(row["name"], row["ready"]) for row in listed] == [("task1", False), ("task2", True)]
        assert listed[0]["reason"].startswith(f"Its file{DAMAGED}")


def test_a_store_that_cannot_be_written_changes_nothing(
    adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service({"task0": adapters["task0"]}, store=tmp_path)
    with running_server(service) as server, server.client(AS_ADMIN) as client:
        assert client.put("/v1/tasks/up", content=adapters["task1"].read_bytes()).status_code == 201
        files = sorted(path.name for path in tmp_path.iterdir())

        def full(path: Path, _content: bytes) -> None:
            raise RunError(f"Could not write {path}: no space left.")

        with monkeypatch.context() as patch:
            patch.setattr(store, "write_atomic", full)
            for name in ("task0", "up", "new"):
                answer = client.put(f"/v1/tasks/{name}", content=adapters["task2"].read_bytes())
                assert (answer.status_code, str(tmp_path) in answer.text) == (507, False)
            patch.setattr(store, "create_atomic", full)
            assert client.put("/v1/tasks/new", content=adapters["task2"].read_bytes()).status_code == 507
        assert classes_of(server, "task0") == offline(adapters["task0"], PNG)[0]
        assert classes_of(server, "up") == offline(adapters["task1"], PNG)[0]
        assert classes_of(server, "new") == 404
        assert sorted(path.name for path in tmp_path.iterdir()) == files
        with monkeypatch.context() as patch:
            patch.setattr(store, "write_atomic", full)
            assert client.delete("/v1/tasks/up").status_code == 507
        assert client.post("/v2/repository/models/up/load").status_code == 200
        assert classes_of(server, "up") == offline(adapters["task1"], PNG)[0]
        assert client.delete("/v1/tasks/up").status_code == 204


def test_without_a_store_nothing_is_uploaded(adapters: dict[str, Path]) -> None:
    with running_server(make_service(adapters)) as server, server.client(AS_ADMIN) as client:
        for answer in (client.put("/v1/tasks/task0", content=b"x"), client.delete("/v1/tasks/task0")):
            assert (answer.status_code, "--store DIR" in answer.json()["error"]) == (403, True)
        assert classes_of(server, "task0") == offline(adapters["task0"], PNG)[0]


def test_metrics_count_and_their_labels_are_bounded(
    adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_LABELS", 3)
    with running_server(make_service(adapters)) as server, server.client(AS_ADMIN) as client:
        for name in adapters:
            assert classes_of(server, name) == offline(adapters[name], PNG)[0]
        assert classes_of(server, "unknown") == 404
        text = client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    requests = {name: value for name, value in figures.items() if name.startswith("e2vpt_requests_total")}
    assert requests == {
        'e2vpt_requests_total{code="200",task="task0"}': "1.0",
        'e2vpt_requests_total{code="200",task="task1"}': "1.0",
        'e2vpt_requests_total{code="200",task="task2"}': "1.0",
        'e2vpt_requests_total{code="200",task="other"}': "3.0",
        'e2vpt_requests_total{code="404",task=""}': "1.0",
    }
    expected = {
        "e2vpt_tasks": 6,
        "e2vpt_tasks_in_memory": 6,
        "e2vpt_tasks_on_device": 6,
        "e2vpt_evictions_total": 0,
        "e2vpt_load_seconds_count": 6,
        "e2vpt_queue_seconds_count": 6,
        "e2vpt_batch_images_sum": 6,
    }
    assert {name: float(figures[name]) for name in expected} == expected
    assert float(figures["e2vpt_device_bytes"]) > 6 * 4 * 1000


@pytest.mark.parametrize("name", ["a", "Blüte 2", "x" * 100, "a.b-c", "a=b", "猫"])
def test_names_that_can_be(name: str) -> None:
    assert not name_problem(name)


@pytest.mark.parametrize("name", ["", "x" * 101, ".", "..", ".a", "a/b", "a\\b", " a", "a ", "a\nb", "a\0"])
def test_names_that_cannot_be(name: str) -> None:
    assert name_problem(name)
