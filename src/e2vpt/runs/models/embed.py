"""Features of images: what the head of an adapted backbone sees."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from e2vpt.data import ImageSource, Preprocessing
from e2vpt.errors import ConfigError, UnreadableImages, needs
from e2vpt.files.atomic import write_atomic, write_csv
from e2vpt.prompting.folding import folded
from e2vpt.prompting.parts import classifier, evaluating
from e2vpt.runs.models.predict import opened_batches


def embed_images(
    model: nn.Module,
    images: Sequence[ImageSource],
    preprocessing: Preprocessing,
    *,
    batch_size: int = 32,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    left_out: dict[str, str] | None = None,
) -> NDArray[np.float32]:
    """Features [n, D] of images, in order; `on_images` is told (done, total).

    Given a `left_out`, images that do not decode are put there by name with the reason, and have no row.

    Raises:
        UnreadableImages: images that do not decode, without `left_out`.
    """
    found: list[Tensor] = []
    problems: dict[str, str] = {}
    done = 0
    with evaluating(model), folded(model):
        for batch in opened_batches(images, preprocessing, batch_size):
            problems |= {image.name: text for image, text in batch if isinstance(text, str)}
            good = [x for _, x in batch if isinstance(x, Tensor)]
            if good and (left_out is not None or not problems):
                found.append(features(model, torch.stack(good)))
            done += len(batch)
            on_images(done, len(images))
    if left_out is not None:
        left_out |= problems
    elif problems:
        raise UnreadableImages(problems)
    return torch.cat(found).numpy() if found else np.zeros((0, _width(model)), dtype=np.float32)


@torch.no_grad()
def features(model: nn.Module, images: Tensor) -> Tensor:
    """The input of the head [B, D] for images [B, 3, h, w]: float32, on the CPU."""
    seen: list[Tensor] = []
    hook = classifier(model).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        model(images.to(next(model.parameters()).device))
    finally:
        hook.remove()
    return seen[0].float().cpu()


def _width(model: nn.Module) -> int:
    return int(classifier(model).in_features)  # type: ignore[arg-type]


def write_features(path: Path, names: Sequence[str], rows: NDArray[np.float32]) -> list[Path]:
    """Features [n, D] as a file of the kind its name says; the files written.

    `.npy` holds the numbers alone, and a .txt beside it the names, one a line. `.csv` and `.parquet` have a
    column `file` and one for each feature.

    Raises:
        ConfigError: another ending.
        MissingExtra: Parquet without pyarrow.
    """
    columns = [f"f{index}" for index in range(rows.shape[1])]
    if path.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, rows)
        write_atomic(path, buffer.getvalue())
        beside = path.with_suffix(".txt")
        write_atomic(beside, "".join(f"{name}\n" for name in names).encode())
        return [path, beside]
    if path.suffix == ".csv":
        table = [
            {"file": name, **dict(zip(columns, row, strict=True))}
            for name, row in zip(names, rows.tolist(), strict=True)
        ]
        write_csv(path, table, ["file", *columns])
    elif path.suffix == ".parquet":
        write_atomic(path, _parquet(names, columns, rows))
    else:
        raise ConfigError(f"{path}: expected a name that ends in .npy, .csv or .parquet.")
    return [path]


def _parquet(names: Sequence[str], columns: Sequence[str], rows: NDArray[np.float32]) -> bytes:
    with needs("hf", "Parquet needs pyarrow"):
        import pyarrow as pa
        from pyarrow import parquet
    table = pa.table({"file": list(names)} | dict(zip(columns, rows.T, strict=True)))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()
