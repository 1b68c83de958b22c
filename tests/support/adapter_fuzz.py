"""Load many mutated adapter files and print what became of them, as JSON; see adapters/test_mutations.py.

python -m support.adapter_fuzz FOLDER [COUNT] [FIRST]
"""

from __future__ import annotations

import copy
import dataclasses
import faulthandler
import json
import resource
import signal
import sys
import time
import tracemalloc
import unicodedata
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import torch
from support.adapter_files import PREPROCESSING
from support.adapter_mutations import DAMAGE, LIES, opened
from support.backbones_for_tests import images_for, prompted, tiny_swin, tiny_vit
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import AdapterError
from e2vpt.pruning.segments import expand

SECONDS = 5  # of processor time for one load: a guard against hanging, which a slow machine does not set off
HEADROOM = 1 << 30  # bytes of address space beyond those taken at the start
TIMES = 10  # the file's size: the most that loading may allocate, beyond ...
ALLOWANCE = 1 << 20  # ... what the 4,000 values that any header may have take as Python objects
LARGE = 200_000  # bytes, from where a file's size and not such small things decides


@dataclasses.dataclass(frozen=True)
class Base:
    """A whole adapter file, its backbone, and what loading it gives."""

    content: bytes
    backbone: nn.Module
    info: e2vpt.AdapterInfo
    tensors: dict[str, Tensor]


def learned(model: nn.Module) -> dict[str, Tensor]:
    found = {f"head.{name}": tensor for name, tensor in model.get_classifier().state_dict().items()}
    for index, layer in enumerate(e2vpt.prompt_layers(model)):
        parts = {name: getattr(layer, name) for name in ("visual", "key", "value", "keep")}
        found |= {f"blocks.{index}.{name}": t.detach() for name, t in parts.items() if t is not None}
    return found


def bases(folder: Path) -> list[Base]:
    """More than 200 kB each, so that ten times the file is far above the small things of any load."""
    f32 = torch.float32
    vit, swin = tiny_vit(f32, num_classes=500), tiny_swin(f32, num_classes=2000)
    avg = tiny_vit(f32, num_classes=900, global_pool="avg")
    shallow = {"visual_depth": "shallow", "kv_depth": "shallow"}
    made = [
        (vit, {"num_visual": 150, "num_kv": 100}, "fp32"),
        (swin, {"num_visual": (200, 150, 0, 250), "num_kv": 150, "share_kv": False}, "fp16"),
        (avg, {"num_visual": 300, "num_kv": 50, **shallow}, "fp32"),
    ]
    found = []
    for backbone, config, precision in made:
        model = prompted(backbone, **config)
        for layer in e2vpt.prompt_layers(model)[:2]:  # one mask of segments, one of single elements
            if layer.keep is not None and backbone is not vit:
                layer.keep.copy_(torch.arange(layer.keep.shape[1]) % 8 > 2)
        e2vpt.save_adapter(model, folder / "base", preprocessing=PREPROCESSING, precision=precision)
        backbone.reset_classifier(3)
        model, info = e2vpt.load_adapter(folder / "base", copy.deepcopy(backbone))
        found.append(Base((folder / "base").read_bytes(), backbone, info, learned(model)))
    return found


def dense(stored: dict[str, Tensor], info: e2vpt.AdapterInfo, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in a file, those of masked prompts spread out again."""
    made = {name: tensor.float() for name, tensor in stored.items() if name != "keep"}
    if "keep" not in stored:
        return made
    bits = "".join(f"{byte:08b}" for byte in stored["keep"].tolist())
    for index, (count, segments) in enumerate(zip(info.num_visual, info.segments, strict=True)):
        name, used = f"blocks.{index}.visual", count * segments
        mask = torch.tensor([float(bit) for bit in bits[:used]]).view(count, segments or 1)
        bits = bits[-(-used // 8) * 8 :]
        if count:
            keep = made[f"blocks.{index}.keep"] = expand(mask, like[name].shape[1], info.layout)
            values = made[name]
            whole = torch.zeros(keep.shape).masked_scatter(keep.bool(), values)
            made[name] = values if values.dim() == 2 else whole
    return made


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Bit for bit, also where a number is not equal to itself."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and found[name].numpy().tobytes() == tensor.numpy().tobytes()
        for name, tensor in expected.items()
    )


def problem(base: Base, content: bytes, sealed: bool, model: nn.Module, info: e2vpt.AdapterInfo) -> str:
    """What is wrong with a mutated file that was loaded, or nothing."""
    found = learned(model)
    if not sealed:
        if not same(found, base.tensors):
            return "other tensors"
        return "" if info == dataclasses.replace(base.info, bytes=len(content)) else "other info"
    in_file = dense(opened(content)[1], info, found)
    for name in found.keys() - in_file.keys():  # full masks are not stored, shared values neither
        in_file[name] = torch.ones_like(found[name]) if name.endswith("keep") else found[name[:-5] + "key"]
    if not same(found, in_file):
        return "not the tensors in the file"
    if len(info.classes) != model.get_classifier().out_features or not all(
        map(str.isprintable, info.classes)
    ):
        return "classes that do not fit"
    with torch.no_grad():
        logits = model(images_for(model, batch=1))
    plausible = max(float(t.abs().max()) for t in found.values()) < 1e4
    return "" if logits.isfinite().all() or not plausible else "logits that are not finite"


def resident(field: str) -> int:
    """VmRSS, VmHWM or VmSize of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def load(path: Path, backbone: nn.Module) -> tuple[Any, int, int, float]:
    """What load_adapter gave or raised, peak bytes in Python and of the process, seconds."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    before, start = resident("VmRSS"), time.perf_counter()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    tracemalloc.start()
    try:
        outcome: Any = e2vpt.load_adapter(path, backbone)
    except BaseException as error:  # also what safetensors' Rust panics with
        outcome = error
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()  # it would slow down all that is done between the loads
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.perf_counter() - start
    return outcome, python_peak, resident("VmHWM") - before, seconds


def reason(error: Exception) -> str:
    """A short name for what load_adapter said."""
    texts = (
        "its checksum",
        "safetensors file, but not",
        "header cannot be used",
        "JSON",
        "values, more than",
    )
    texts += (
        "bytes and the file ends",
        "bytes, more than",
        "deserializing",
        "format is",
        "has adapter format",
    )
    known = [text for text in texts if text in str(error)]
    return f"{type(error).__name__}: {known[0] if known else 'other'}"


def _steers(text: str) -> bool:
    """Whether a terminal would do something else than show it in a line."""
    return any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def main(folder: Path, count: int, first: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    faulthandler.register(signal.SIGPROF, chain=True)  # the traceback, then the end of the process
    made, path = bases(folder), folder / "mutated"
    limit = resident("VmSize") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    kinds: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    python_ratio = process_ratio = (0.0, "")
    slowest = 0.0
    backbone: dict[int, nn.Module] = {}
    for index in range(first, first + count):
        which, random = index % len(made), Random(index)
        base = made[which]
        sealed = index // len(made) % 2 == 1
        mutate = random.choice(LIES if sealed else DAMAGE)
        content = mutate(base.content, random)
        path.write_bytes(content)
        model = backbone.pop(which, None) or copy.deepcopy(base.backbone)
        outcome, python_peak, process_peak, seconds = load(path, model)
        name, size, slowest = f"{index} {mutate.__name__}", len(content), max(slowest, seconds)
        if max(python_peak, process_peak) > TIMES * size + ALLOWANCE:
            failures.append(f"{name}: {python_peak} and {process_peak} bytes for a file of {size}")
        if size >= LARGE:
            python_ratio = max(python_ratio, (round(python_peak / size, 2), name))
            process_ratio = max(process_ratio, (round(process_peak / size, 2), name))
        if isinstance(outcome, BaseException):
            counted = type(outcome).__name__
            out_of_memory = "alloc" in str(outcome) or isinstance(outcome.__cause__, MemoryError)
            if not isinstance(outcome, AdapterError) or out_of_memory:
                failures.append(f"{name}: {outcome!r}")
            elif _steers(str(outcome)) or len(str(outcome)) > 1500:
                failures.append(f"{name}: a message that is no message")
            else:
                reasons[reason(outcome)] += 1
            if any(hasattr(module, "prompts") for module in model.modules()):
                failures.append(f"{name}: refused, with prompts left in the backbone")
            else:
                backbone[which] = model
        else:
            counted = "other tensors, sealed" if sealed else "the same tensors"
            if sealed and same(learned(outcome[0]), base.tensors):
                counted = "the same tensors"
            wrong = problem(base, content, sealed, *outcome)
            failures += [f"{name}: loaded {wrong}"] if wrong else []
        kinds.setdefault(mutate.__name__, Counter())[counted] += 1
    return {
        "files": count,
        "base_bytes": [len(base.content) for base in made],
        "failures": failures,
        "kinds": kinds,
        "reasons": dict(reasons.most_common()),
        "python_ratio": python_ratio,
        "process_ratio": process_ratio,
        "slowest_s": round(slowest, 3),
    }


if __name__ == "__main__":
    _, where, *rest = sys.argv
    number, start_at = (*map(int, rest), *(2100, 0)[len(rest) :])
    print(json.dumps(main(Path(where), number, start_at), indent=2))
