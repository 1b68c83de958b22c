"""The OpenAPI document says what the server does: generated requests get documented answers."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.serving_for_tests import AS_ADMIN, RunningServer

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def test_a_body_that_is_not_read_is_documented_wherever_one_is(server: RunningServer) -> None:
    compressed = AS_ADMIN | {"Content-Encoding": "gzip"}
    with server.client(compressed) as client:
        routes = client.get("/openapi.json").json()["paths"]
        reading = [
            (verb, path) for path, verbs in routes.items() for verb in ("post", "put") if verb in verbs
        ]
        assert len(reading) == 6
        for verb, path in reading:
            found = client.request(verb, path.replace("{name}", "task0"), content=b"x")
            assert found.status_code == 415, (path, found.text)
            assert {"400", "408", "413", "415", "429"} <= set(routes[path][verb]["responses"]), path


def test_generated_requests_get_documented_answers(server: RunningServer) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    cases = st.one_of(*(found.ok().as_strategy() for found in schema.get_all_operations()))

    @given(case=cases)
    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=AS_ADMIN, checks=CHECKS)

    check()
    assert server.alive
