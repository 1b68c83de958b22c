"""Work on the processes of a Ray cluster, local or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from e2vpt.errors import E2VPTError, needs

T = TypeVar("T")
_RETRIES = 3
"""How often a piece of work may lose its worker."""


def connect(workers: int, address: str | None = None) -> Any:
    """Ray, connected to `address` or to what RAY_ADDRESS names; else to `workers` processes of this machine.

    Raises:
        MissingExtra: Ray is not installed.
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray
    if address or os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False)
    else:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    return ray


def import_ray() -> Any:
    """Ray, connected to nothing yet.

    Raises:
        MissingExtra: it is not installed.
    """
    # Ray reports how it is used unless told not to; that is for its user to decide.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with needs("ray", "A cluster needs Ray"):
        import ray
    return ray


def run_on_cluster(
    run: Callable[[T], None],
    pieces: Sequence[T],
    on_done: Callable[[T, str | None], None],
    *,
    workers: int,
    address: str | None = None,
) -> None:
    """`run` every piece in a worker process, one CPU and, where there are any, one GPU each.

    A worker that dies loses its piece, which begins again on another. `on_done` hears here of each piece and
    of what went wrong with it; one that fails does not stop the others. `run` must pickle, and what it reads
    and writes must have the same paths on every worker.
    """
    ray = connect(workers, address)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(_run)
    waiting = {remote.remote(run, piece): piece for piece in pieces}
    while waiting:
        done, _ = ray.wait(list(waiting))
        for reference in done:
            piece = waiting.pop(reference)
            try:
                problem = ray.get(reference)
            except ray.exceptions.RayError as error:
                problem = f"its worker died or failed: {str(error).strip().splitlines()[-1]}"
            on_done(piece, problem)


def _run(run: Callable[[T], None], piece: T) -> str | None:
    """What went wrong, in words: exceptions of this package need not travel."""
    try:
        run(piece)
    except E2VPTError as error:
        return str(error)
    return None
