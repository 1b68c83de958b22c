"""Exported files, computed with where there is neither torch nor this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_ALONE = """
import sys
sys.modules["torch"] = sys.modules["e2vpt"] = sys.modules["timm"] = None
import numpy as np, onnxruntime
file, *batches = sys.argv[1:]
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
for batch in batches:
    (logits,) = session.run(["logits"], dict(np.load(batch)))
    np.save(batch + ".npy", logits)
"""


def logits_alone(file: Path, *batches: dict[str, Tensor]) -> list[Tensor]:
    """Logits of batches of inputs by name, of a process that can import neither torch nor e2vpt."""
    paths = [str(file.with_name(f"{i}.npz")) for i in range(len(batches))]
    for path, batch in zip(paths, batches, strict=True):
        np.savez(path, **{name: tensor.numpy() for name, tensor in batch.items()})
    done = subprocess.run([sys.executable, "-I", "-c", _ALONE, str(file), *paths], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return [torch.from_numpy(np.load(f"{path}.npy")) for path in paths]
