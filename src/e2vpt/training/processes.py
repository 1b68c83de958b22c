"""One training on one or several processes, by Hugging Face Accelerate.

Accelerate is imported only when used, so that `import e2vpt` needs torch and timm only.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

T = TypeVar("T")


def open_processes() -> Accelerator:
    """The device, and the other processes of `torchrun` or `accelerate launch` where there are any."""
    from accelerate import Accelerator

    _state()
    # Precision is set for each training; Accelerate would fix it once per process.
    return Accelerator(mixed_precision="no", cpu=_use_cpu())


def shared_by_processes(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model, its gradients averaged over the processes where there are several."""
    if not _shares_a_gpu():
        prepared: nn.Module = accelerator.prepare_model(model)
        return prepared
    # Accelerate would look for a GPU of each process's own.
    return nn.parallel.DistributedDataParallel(model, device_ids=[accelerator.device])


def process_rank() -> tuple[int, int]:
    """Index and number of the processes that train together under `torchrun` or `accelerate launch`."""
    state = _state()
    return state.process_index, state.num_processes


def is_first_process() -> bool:
    """Whether this process writes and reports for all that train together."""
    return process_rank()[0] == 0


def as_the_first(value: T) -> T:
    """What the first process has of a value that every process made; no process may skip the call.

    For what a choice hangs on: two GPUs may round apart, and processes that pruned apart cannot train on
    together. Tensors in it should lie on the CPU.
    """
    if process_rank()[1] == 1:
        return value
    from accelerate.utils import broadcast_object_list

    values = [value]
    broadcast_object_list(values)
    return values[0]


def _state() -> PartialState:
    """What all of Accelerate shares in this process; made by the first call."""
    from accelerate import PartialState

    # NCCL refuses two processes on one GPU; gloo, by way of the host, does not.
    return PartialState(cpu=_use_cpu(), **({"backend": "gloo"} if _shares_a_gpu() else {}))


def _shares_a_gpu() -> bool:
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return not _use_cpu() and 0 < torch.cuda.device_count() < processes


def _use_cpu() -> bool:
    """Whether to compute on the CPU: Accelerate has to be told, or CPU processes do not find each other."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return asked or not torch.accelerator.is_available()


def leave_processes() -> None:
    """Close what `torchrun` opened; nothing to do in a single process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # A model shared by processes that is freed only when Python ends takes gloo's threads with it: abort.
        gc.collect()
        torch.distributed.destroy_process_group()
