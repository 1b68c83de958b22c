"""What a measurement was made on, so that a report says it itself."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from e2vpt.backbones.placing import default_device

_PACKAGES = ("e2vpt", "torch", "timm", "peft")


def machine(device: str | None = None) -> dict[str, str]:
    """Command, date, processor, threads and versions, in words; without a device, of the one that trains."""
    device = device or default_device()
    return {
        "command": shlex.join(["e2vpt", *map(_without_folder, sys.argv[1:])]),
        "date": date.today().isoformat(),
        "device": _gpu() if device.startswith("cuda") else _cpu(),
        "threads": str(torch.get_num_threads()),
        "versions": ", ".join([f"Python {platform.python_version()}", *map(_version, _PACKAGES)]),
    }


def report_head(title: str, machine: Mapping[str, str]) -> list[str]:
    """The first lines of a report: its title, and what it was measured on."""
    return [f"# {title}", "", *(f"* {name}: {value}" for name, value in machine.items())]


def _without_folder(argument: str) -> str:
    """A report is for other machines: files by name only."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def _gpu() -> str:
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


@functools.cache
def _cpu() -> str:
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


@functools.cache
def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
