"""The same application as a Ray Serve deployment: several processes, each with its backbone and its tasks."""

from __future__ import annotations

import math
import os
import secrets
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from fastapi import FastAPI

from e2vpt.errors import ConfigError, needs
from e2vpt.search.cluster import connect
from e2vpt.serving.app import create_app
from e2vpt.serving.limits import Limits
from e2vpt.serving.logs import log_to_stderr
from e2vpt.serving.service import Service
from e2vpt.serving.tokens import Tokens

_NAME = "e2vpt"
REPLICA_LOST = (500, 503)
"""What the proxy answers for a replica that died; as no answer changes anything, a client may ask again."""
_HEALTH_SECONDS = 2.0
"""Between two looks at a replica: so long it takes until a dead one is noticed by all."""


def serve_replicas(
    make_service: Callable[[], Service],
    tokens: Tokens,
    limits: Limits,
    place: tuple[str, int],
    *,
    replicas: int,
    on_ready: Callable[[], None],
) -> None:
    """Answer from `replicas` processes at `place`, host and port, until SIGINT or SIGTERM; then return.

    On the cluster that RAY_ADDRESS names, else on a local one that ends with this call. `make_service` must
    pickle; each replica calls it, also one that replaces another. Each replica batches for itself.

    Give no tokens that may change tasks: a change would reach one replica only.

    Raises:
        ConfigError: the replicas do not start.
        MissingExtra: Ray Serve is not installed.
    """
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    if not os.environ.get("RAY_ADDRESS"):
        # Whoever reaches Ray's ports can run programs: ours ask for a token that nobody else has.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Its other proxy would listen on all interfaces, whatever the host.
    os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
    ray = connect(replicas)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray has set its own.
            signal.signal(number, stop)
        serve = _ray_serve()
        _deploy(ray, serve, lambda: _replica(make_service, tokens), limits, place, replicas)
        on_ready()
        stopped.wait()
        serve.delete(_NAME)
    finally:
        ray.shutdown()


def _replica(make_service: Callable[[], Service], tokens: Tokens) -> FastAPI:
    log_to_stderr()
    return create_app(make_service(), tokens)


def _ray_serve() -> Any:
    with needs("ray,serve", "Replicas need Ray Serve"):
        from ray import serve
    return serve


def _gpu_share(gpus: float, replicas: int) -> float:
    """Of a GPU for each replica, so that all have room: a share lies on one GPU."""
    return 1 / math.ceil(replicas / gpus) if gpus else 0


def _deploy(
    ray: Any,
    serve: Any,
    build: Callable[[], FastAPI],
    limits: Limits,
    place: tuple[str, int],
    replicas: int,
) -> None:
    share = _gpu_share(ray.cluster_resources().get("GPU", 0), replicas)
    deployment = serve.deployment(
        serve.ingress(build)(),
        name=_NAME,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": 1, "num_gpus": share},
        max_ongoing_requests=limits.connections,
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=limits.deadline,
    )
    serve.start(http_options={"host": place[0], "port": place[1]})
    try:
        serve.run(deployment.bind(), name=_NAME, route_prefix="/")
    except RuntimeError as error:
        raise ConfigError(f"The replicas do not start: {error}") from error
