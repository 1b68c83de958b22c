"""Adapters of the shipped backbone with random values, images, and a server in a thread."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
import uvicorn
from PIL import Image

import e2vpt
from e2vpt import MultiTask, PromptConfig
from e2vpt.serving.app import create_app
from e2vpt.serving.limits import Limits
from e2vpt.serving.listen import open_socket
from e2vpt.serving.service import Service
from e2vpt.serving.store import Store
from e2vpt.serving.tokens import Tokens

TOKEN, ADMIN = "a-token-of-a-client", "a-token-of-an-admin"
AS_CLIENT = {"Authorization": f"Bearer {TOKEN}"}
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}


def make_adapter(path: Path, seed: int, *, method: str = "e2vpt", image_size: int | None = None) -> Path:
    """An adapter file of the demo backbone: 2 to 5 classes, every task with a preprocessing of its own."""
    torch.manual_seed(seed)
    classes = [f"class {seed}-{index}" for index in range(2 + seed % 4)]
    backbone = e2vpt.load_backbone("demo", num_classes=len(classes), image_size=image_size)
    model = e2vpt.adapt(backbone, method, PromptConfig(num_visual=1 + seed % 3, num_kv=seed % 2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    size = (image_size or 32,) * 2
    mean = (0.4 + 0.01 * (seed % 7),) * 3
    preprocessing = e2vpt.Preprocessing(image_size=size, mean=mean, std=(0.5, 0.5, 0.5))
    e2vpt.save_adapter(model, path, classes=classes, preprocessing=preprocessing)
    return path


def make_adapters(folder: Path, num: int) -> dict[str, Path]:
    """Adapter files by their tasks' names, task0 and so on."""
    return {f"task{seed}": make_adapter(folder / f"task{seed}.safetensors", seed) for seed in range(num)}


def encoded_image(seed: int, size: tuple[int, int] = (40, 36), kind: str = "PNG") -> bytes:
    """A file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def offline(adapter: Path, image: bytes, topk: int = 10) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """What `e2vpt.load(...).predict` says."""
    (found,) = e2vpt.load(adapter).predict([Image.open(io.BytesIO(image))], topk=topk)
    return found.classes, found.scores


def make_service(
    adapters: dict[str, Path],
    limits: Limits | None = None,
    store: Path | None = None,
    device_bytes: int | None = None,
) -> Service:
    """A service with these tasks on the demo backbone."""
    tasks = MultiTask(e2vpt.load_backbone("demo", num_classes=0), device_bytes=device_bytes)
    service = Service(tasks, limits or Limits(), None if store is None else Store(store))
    for name, path in adapters.items():
        service.catalogue.add(name, path)
    service.catalogue.restore()
    return service


@dataclass(frozen=True)
class RunningServer:
    """A server that listens on loopback."""

    service: Service
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        """A client that gives a token, the client's if none is given."""
        return httpx.Client(base_url=self.url, headers=AS_CLIENT if headers is None else headers, timeout=30)

    @property
    def alive(self) -> bool:
        with self.client() as client:
            return client.get("/v2/health/ready").status_code == 200


@contextlib.contextmanager
def running_server(service: Service, *, predict: Sequence[str] = (TOKEN,)) -> Iterator[RunningServer]:
    """The service behind HTTP, in a thread of this process."""
    app = create_app(service, Tokens(predict=predict, admin=(ADMIN,)))
    bound = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    assert server.started
    try:
        yield RunningServer(service, bound.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()
    assert not thread.is_alive()
