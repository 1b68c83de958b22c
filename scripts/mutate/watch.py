"""Run cases one after the other in a process of their own, bounded in time and memory, and judge them."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import e2vpt

SECONDS = 15.0
"""Of the processor, so that a busy machine is no fault; six times as much by the clock ends the process."""
BYTES = 2**30
_ADDRESS_SPACE = 6 * 2**30
"""So that a fault costs the process and not the machine."""
_MAKING = 120.0
"""Seconds for making an input, and for the independent reading of it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input.

    Attributes:
        name: what was done to it.
        run: what a user would run.
        check: what is wrong with what `run` gave, or nothing.
        after: what is wrong afterwards, whether it was refused or not.
        mentions: an error has to contain one of these.
        lines: an error may have so many.
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], str]
    after: Callable[[], str] = lambda: ""
    mentions: tuple[str, ...]
    lines: int = 24


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case: "refused", "right" or "fault", why, and what it cost."""

    kind: str
    index: int
    name: str
    verdict: str
    why: str
    seconds: float = 0.0
    peak: int = 0


Make = Callable[[Random, Path], Case]
Prepare = Callable[[Path], Make]
Wanted = tuple[str, int]
"""A kind of input and the number of one."""


def read_task(path: Path, trained: Path | None) -> e2vpt.Task:
    """The task in a file, as `e2vpt train` reads it; with `trained`, a head is trained on it there."""
    task = e2vpt.load_task(path)
    if trained is not None:
        e2vpt.train(path, "demo", trained, method="linear", epochs=1, prune=False, verbose=False)
    return task


def outcomes(
    prepare: Mapping[str, Prepare], wanted: Sequence[Wanted], seed: int, folder: Path
) -> Iterator[Outcome]:
    """The outcome of every case; a process that hangs or dies costs its case and is replaced."""
    context = multiprocessing.get_context("spawn")
    left = list(wanted)
    while left:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(prepare, left, seed, folder, theirs))
        process.start()
        theirs.close()
        name, began, limit = "(made)", time.monotonic(), _MAKING
        try:
            while left:
                if not ours.poll(max(0.0, began + limit - time.monotonic())):
                    process.kill()
                    raise EOFError(f"did not end in {limit:.0f} s")
                message = ours.recv()
                began = time.monotonic()
                if isinstance(message, Outcome):
                    left.remove((message.kind, message.index))
                    yield message
                    limit = _MAKING
                else:
                    name, limit = message
        except EOFError as error:
            process.join()
            why = str(error) or f"the process died (exit code {process.exitcode})"
            kind, index = left[0]
            yield Outcome(kind=kind, index=index, name=name, verdict="fault", why=why, seconds=limit)
            left = left[1:]
        process.join()


def _work(
    prepare: Mapping[str, Prepare], wanted: Sequence[Wanted], seed: int, folder: Path, pipe: Connection
) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    makes = {kind: prepare[kind](folder / kind) for kind in dict.fromkeys(kind for kind, _ in wanted)}
    limit = _status("VmSize") + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    for kind, index in wanted:
        place = folder / f"{kind}{index}"
        place.mkdir(exist_ok=True)
        try:
            case = makes[kind](Random(f"{seed}/{kind}/{index}"), place)
        except Exception:
            pipe.send(_outcome(kind, index, "(made)", "fault", "the mutator: " + traceback.format_exc()))
            continue
        pipe.send((case.name, 6 * SECONDS))
        pipe.send(_judged(kind, index, case, pipe))
        _remove(place)


def _judged(kind: str, index: int, case: Case, pipe: Connection) -> Outcome:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before, start = _status("VmRSS"), time.process_time()
    problem = result = None
    try:
        result = case.run()
    except BaseException as error:
        problem = error
    seconds, peak = time.process_time() - start, _status("VmHWM") - before
    pipe.send((case.name, _MAKING))
    try:
        wrong = _wrong_refusal(problem, case) if problem is not None else case.check(result)
        wrong = wrong or case.after()
    except Exception:
        wrong = "the judge: " + traceback.format_exc()
    if not wrong and seconds > SECONDS:
        wrong = f"took {seconds:.1f} s"
    if not wrong and peak > BYTES:
        wrong = f"took {peak / 2**20:.0f} MB"
    verdict = "fault" if wrong else "refused" if problem is not None else "right"
    return _outcome(kind, index, case.name, verdict, wrong or str(problem or ""), seconds, peak)


def _outcome(
    kind: str, index: int, name: str, verdict: str, why: str, seconds: float = 0.0, peak: int = 0
) -> Outcome:
    return Outcome(
        kind=kind, index=index, name=name, verdict=verdict, why=why[-3000:], seconds=seconds, peak=peak
    )


def _wrong_refusal(problem: BaseException, case: Case) -> str:
    from e2vpt.errors import E2VPTError, visible

    if not isinstance(problem, E2VPTError):
        return "raised " + "".join(traceback.format_exception(problem))
    return wrong_message(str(problem), case.mentions, case.lines, visible) or _out_of_memory(problem)


def wrong_message(text: str, mentions: Sequence[str], lines: int, visible: Callable[[str], str]) -> str:
    """What is wrong with a message to a person, or nothing."""
    found = text.split("\n")
    if len(found) > lines or len(text) > 6000:
        return f"a message of {len(found)} lines and {len(text)} characters: {text[:300]}"
    if any(visible(line) != line for line in found):
        return f"a message with characters that do not show: {text!r}"
    if not any(word in text for word in mentions):
        return f"a message that does not name {mentions[0]}: {text}"
    if re.search(r"weights_only|Traceback|0x[0-9a-f]{8,}", text):
        return f"a message that gives a library's advice or insides: {text}"
    return ""


def _out_of_memory(problem: BaseException) -> str:
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, MemoryError) or "DefaultCPUAllocator" in str(cause):
            return f"tried to allocate without end: {problem}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _status(field: str) -> int:
    """VmRSS, VmHWM or VmSize of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


def _remove(place: Path) -> None:
    import shutil

    shutil.rmtree(place, ignore_errors=True)
