"""What one would write without e2vpt serve: a model for each task, a forward pass for each request.

python scripts/naive_server.py NAME=ADAPTER... ; for `soak_serving.py --naive`.
"""

from __future__ import annotations

import io
import sys
import threading
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, File, Form
from PIL import Image

import e2vpt
from e2vpt.serving.listen import open_socket


def main(words: list[str]) -> None:
    """Serve until a signal."""
    models = {name: e2vpt.load(path) for name, path in (word.split("=", 1) for word in words)}
    locks = {name: threading.Lock() for name in models}
    app = FastAPI()

    @app.post("/v1/predict")
    def predict(
        images: Annotated[bytes, File()], task: Annotated[str, Form()], topk: Annotated[int, Form()]
    ) -> dict[str, Any]:
        with locks[task]:
            (found,) = models[task].predict([Image.open(io.BytesIO(images))], topk=topk)
        row = {"file": "", "task": task, "classes": found.classes, "scores": found.scores}
        return {"predictions": [row]}

    bound = open_socket("127.0.0.1", 0)
    print(f"Listening on http://127.0.0.1:{bound.getsockname()[1]}", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="error")).run(sockets=[bound])


if __name__ == "__main__":
    main(sys.argv[1:])
