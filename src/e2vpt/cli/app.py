"""The command line: its commands, each loaded when it is called. Results on stdout, the rest on stderr."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import e2vpt
from e2vpt.errors import E2VPTError

COMMANDS = {
    "train": ("train", "train_command"),
    "eval": ("evaluate", "eval_command"),
    "predict": ("images", "predict_command"),
    "embed": ("images", "embed_command"),
    "info": ("info", "info_command"),
    "backbones": ("backbones", "backbones_command"),
    "prune": ("train", "prune_command"),
    "search": ("search", "search_command"),
    "report": ("report", "report_command"),
    "compare": ("compare", "compare_command"),
    "bench": ("bench", "bench_app"),
    "serve": ("serve", "serve_command"),
    "export": ("export", "export_command"),
    "explain": ("explain", "explain_command"),
    "push": ("share", "push_command"),
    "pull": ("share", "pull_command"),
    "demo": ("demo", "demo_command"),
}
"""Name to module of `cli.commands` and what it is there."""

SHORT_HELP = {
    "train": "Train an adapter from labelled images: train, prune, rewind, train again, keep the best.",
    "eval": "Measure an adapter's accuracy on labelled images.",
    "predict": "Name the classes of images.",
    "embed": "Write features of images: what the head of the adapted backbone sees.",
    "info": "Show what an adapter file holds; no backbone is needed.",
    "backbones": "List the backbones that can be adapted, with size, pooling, pretrained tags and licence.",
    "prune": "Prune the prompts of a finished run, rewind and train again.",
    "search": "Search rates, prompt lengths, keep ratios and initial values by validation accuracy.",
    "report": "Make the HTML report of a run; of several runs, also a page that compares them.",
    "compare": "Compare methods on the same data with the same budget; one table.",
    "bench": "Measure speed and memory; run the paper's benchmarks.",
    "serve": "Answer over HTTP for many tasks on one backbone: Open Inference Protocol v2, JSON, forms.",
    "export": "Write an adapted model to a file of its own: ONNX, torch.export, or a bundle.",
    "explain": "Show where a model looks, what its prompts do, and how well it separates classes.",
    "push": "Upload an adapter, its model card and its settings to the Hugging Face Hub.",
    "pull": "Download an adapter from the Hugging Face Hub.",
    "demo": "Compare a linear head with E²VPT on images drawn here: offline, in half a minute.",
}


def make_app(wanted: str | None = None) -> typer.Typer:
    """The application. Only the command `wanted` is imported; the others stand there with their help line."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Adapt one frozen vision transformer to many image tasks with mixed visual prompts.",
    )
    app.callback()(_root)
    for name, (module, attribute) in COMMANDS.items():
        if name != wanted:
            app.command(name, help=SHORT_HELP[name])(_not_loaded(name))
            continue
        found: Any = getattr(importlib.import_module(f"e2vpt.cli.commands.{module}"), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def main() -> None:
    """Entry point: errors of ours become one message on stderr and exit code 1."""
    _open_closed_streams()
    # Library warnings are for developers; what a user must know is said by our own messages.
    warnings.simplefilter("ignore")
    if isinstance(sys.stdout, io.TextIOWrapper):  # Names may hold letters that its encoding does not have.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            make_app(first_word(sys.argv[1:]))()
        finally:
            sys.stdout.flush()
    except E2VPTError as error:
        _say_error(str(error))
        sys.exit(1)
    except OSError as error:
        if error.filename is not None:  # Not stdout or stderr.
            raise
        if error.errno != errno.EPIPE:  # Whoever closed a pipe has read enough.
            _say_error(
                f"Could not write the results: {error.strerror}. Free space, then run the command again."
            )
        # What is left in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


def _open_closed_streams() -> None:
    """Streams that the caller closed lead nowhere; else the next file opened would take their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _say_error(message: str) -> None:
    from rich.markup import escape

    from e2vpt.runs.progress import console

    with contextlib.suppress(OSError):  # stderr may be as full as stdout.
        console.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def first_word(arguments: Sequence[str]) -> str | None:
    """The command among the arguments."""
    return next((word for word in arguments if not word.startswith("-")), None)


def _show_version(value: bool) -> None:
    if value:
        print(f"e2vpt {e2vpt.__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Where the options before the command go."""


def _not_loaded(name: str) -> Callable[[], None]:
    def command() -> None:
        raise AssertionError(f"{name} was called without being loaded")

    return command
