"""Costs that do not depend on the hour: FLOPs, peak memory, bytes kept for the backward pass."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_MEMORY = "[memory]"


def flops(run: Callable[[], None]) -> int:
    """Floating-point operations of matrix products, convolutions and attention: two for a multiply-add."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        run()
    return int(counter.get_total_flops())


def peak_memory(run: Callable[[], None], device: str = "cpu") -> int:
    """Most bytes held at a time by what `run` allocates, as the allocator saw it, weights aside."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_bytes())["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == _MEMORY
    )
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


def saved_bytes(forward: Callable[[], Tensor], aside: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, without the tensors `aside`: weights, images."""
    own = {_memory(tensor) for tensor in aside}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _memory(tensor) not in own:
            saved[_memory(tensor)] = tensor.untyped_storage().nbytes()
        # Not the tensor itself: an operation that saves its own output would hold itself for ever.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # Alive until counted: memory that was given back would be counted once for two tensors.
        result = forward()
    del result
    return sum(saved.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """The profiler writes a line to stderr whenever it starts or stops, past Python and without a switch."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _counted(count: Callable[..., Any], shapes: int) -> Callable[..., int]:
    return lambda *args, **_: int(count(*args[:shapes]))


# PyTorch counts its GPU attention kernels only.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _counted(sdpa_flop_count, 3),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _counted(
        sdpa_backward_flop_count, 4
    ),
}
