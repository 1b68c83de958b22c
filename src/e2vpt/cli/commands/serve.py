"""The command that answers over HTTP: serve."""

from __future__ import annotations

import enum
import functools
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from e2vpt.cli.options import Backbone, Weights
from e2vpt.errors import ConfigError, visible
from e2vpt.files.paths import check_folder_place
from e2vpt.runs.progress import say
from e2vpt.serving.limits import Limits
from e2vpt.serving.listen import is_loopback, open_socket, serve
from e2vpt.serving.logs import log_to_stderr
from e2vpt.serving.tokens import Tokens, read_tokens

_SHOWN = 20
_LIMITS = Limits()


class ServerEngine(enum.StrEnum):
    """What runs the application."""

    uvicorn = "uvicorn"
    ray = "ray"


def serve_command(
    adapters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADAPTERS...",
            help="Adapter files, run folders or hf-hub:OWNER/NAME, each a task called like it, or NAME=PATH.",
            show_default=False,
        ),
    ] = None,
    backbone: Backbone = None,
    weights: Weights = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:1; a GPU where there is one.", show_default=False)
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(help="Of the forward pass; bf16 takes half the memory, and suits GPUs."),
    ] = "fp32",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    max_batch: Annotated[int, typer.Option(help="Images of one forward pass.")] = _LIMITS.max_batch,
    max_wait_ms: Annotated[
        float, typer.Option(help="Milliseconds that an image waits for others to join its batch.")
    ] = 1000 * _LIMITS.max_wait,
    queue: Annotated[
        int, typer.Option(help="Images accepted and not yet answered; beyond them, 429.")
    ] = _LIMITS.queue,
    deadline_s: Annotated[
        float, typer.Option(help="Seconds to answer a request in; beyond them, 504.")
    ] = _LIMITS.deadline,
    max_body_mb: Annotated[int, typer.Option(min=1, help="MiB of one request.")] = _LIMITS.max_body >> 20,
    max_images: Annotated[int, typer.Option(help="Images of one request.")] = _LIMITS.max_images,
    store: Annotated[
        Path | None, typer.Option(help="Folder for adapters that clients upload; without it, none.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Tokens that may predict, one a line; or E2VPT_TOKEN is one.")
    ] = None,
    admin_token_file: Annotated[
        Path | None, typer.Option(help="Tokens that may change tasks; or E2VPT_ADMIN_TOKEN is one.")
    ] = None,
    engine: Annotated[
        ServerEngine, typer.Option(help="uvicorn is one process; ray is --replicas of them, by Ray Serve.")
    ] = ServerEngine.uvicorn,
    replicas: Annotated[
        int, typer.Option(min=1, help="Processes of --engine ray; each has the backbone and all tasks.")
    ] = 1,
) -> None:
    """Answer over HTTP for many tasks on one backbone.

    Open Inference Protocol v2 below /v2, plain JSON and forms at /v1/predict, Prometheus at /metrics.
    Requests for different tasks share a batch.
    """
    limits = Limits(
        max_batch=max_batch,
        max_wait=max_wait_ms / 1000,
        queue=queue,
        deadline=deadline_s,
        max_images=max_images,
        max_body=max_body_mb << 20,
        bodies=max(_LIMITS.bodies, max_body_mb << 20),
    )
    tokens = Tokens(
        predict=read_tokens(token_file, "E2VPT_TOKEN"),
        admin=read_tokens(admin_token_file, "E2VPT_ADMIN_TOKEN"),
    )
    if engine is ServerEngine.ray and (store or tokens.admin):
        raise ConfigError(
            "--engine ray does not go with --store, --admin-token-file or E2VPT_ADMIN_TOKEN: a change of "
            "tasks would reach one replica only. Leave them out, or use --engine uvicorn."
        )
    if engine is ServerEngine.uvicorn and replicas > 1:
        raise ConfigError(f"--replicas is {replicas}. More than one need --engine ray.")
    from e2vpt.serving.app import create_app
    from e2vpt.serving.replicas import serve_replicas
    from e2vpt.serving.start import named_adapter, open_service

    named = [named_adapter(word) for word in adapters or []]
    opened = functools.partial(
        open_service,
        named,
        backbone=backbone,
        weights=weights,
        store=store,
        limits=limits,
        device=device,
        precision=precision,
    )
    bound = open_socket(host, port)
    with bound, _only_server(store):
        service, failed = opened()
        for problem in failed:
            say(f"Not loaded: {problem}")
        address, known = bound.getsockname(), list(service.catalogue.known)
        announcement = _announcement(_url(address), known, tokens, local=is_loopback(bound))

        def on_ready() -> None:
            say(announcement)

        if engine is ServerEngine.uvicorn:
            log_to_stderr()
            serve(create_app(service, tokens), bound, limits, on_ready)
    if engine is ServerEngine.ray:
        del service  # It showed that the adapters load; each replica has one of its own.
        place = (host, address[1])
        serve_replicas(lambda: opened()[0], tokens, limits, place, replicas=replicas, on_ready=on_ready)
    # Ray's proxy may hold requests that no replica accepted.
    say("Stopped." if engine is ServerEngine.ray else "Stopped; everything accepted was answered.")


def _only_server(store: Path | None) -> AbstractContextManager[None]:
    """The store's lock: each server keeps the index in memory, so a second would undo changes."""
    if store is None:
        return nullcontext()
    from e2vpt.runs.folders.lock import locked

    check_folder_place(store)
    return locked(store, "--store")


def _url(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _announcement(url: str, names: list[str], tokens: Tokens, *, local: bool) -> str:
    some = ", ".join(map(visible, names[:_SHOWN])) or "none yet"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    lines = [f"Listening on {url}{', for programs on this machine only' if local else ''}."]
    lines.append(f"{len(names)} task{'s' if len(names) != 1 else ''}: {some}{more}.")
    if not local and not tokens.predict:
        lines.append("Everyone who reaches this address may ask: there is no --token-file.")
    if not tokens.admin:
        lines.append("Nobody may change tasks: there is no --admin-token-file.")
    return "\n".join(lines)
