"""The command that shows what was learned: explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from e2vpt.cli.options import DATA_HELP, AdapterArgument, AsJson, Backbone, SkipUnreadable, Weights
from e2vpt.config.images import WhichSplit
from e2vpt.errors import ConfigError


def explain_command(
    adapter: AdapterArgument,
    pictures: Annotated[
        list[str] | None, typer.Argument(metavar="PICTURES...", help="Images, or folders of images.")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="Another run of the task, on the same pictures.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Class to explain instead of the one that is predicted.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, max=1000, help="Points of integrated gradients; 32 when not given.")
    ] = None,
    embed: Annotated[
        str | None, typer.Option(metavar="DATA", help=f"Embedding plots of labelled images: {DATA_HELP}")
    ] = None,
    split: Annotated[
        WhichSplit | None, typer.Option(help="With --embed: which images; test when not given.")
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(min=10, help="With --embed: at most so many; 1000 when not given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --embed: of the choice and of UMAP; 0 when not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the page and pictures; explain beside the adapter, or here for one of the Hub."
        ),
    ] = None,
    backbone: Backbone = None,
    weights: Weights = None,
    skip_unreadable: SkipUnreadable = False,
    as_json: AsJson = False,
) -> None:
    """Show where a model looks and what its prompts do; or, with --embed, how well it separates classes."""
    of_pictures = {"PICTURES": pictures, "--beside": beside, "--class": label, "--steps": steps}
    of_embed = {"--split": split, "--max-images": max_images, "--seed": seed}
    _refuse_idle(of_pictures if embed is not None else of_embed, "with" if embed is not None else "without")
    if embed is None and not pictures:
        raise ConfigError("Name pictures to explain, or labelled images to plot with --embed DATA.")
    from e2vpt.cli.jobs.explaining import explain_pictures, plot_embedding

    if embed is None:
        explain_pictures(
            adapter,
            pictures or [],
            out,
            beside=beside or [],
            label=label,
            steps=steps or 32,
            backbone=backbone,
            weights=weights,
            skip_unreadable=skip_unreadable,
            as_json=as_json,
        )
        return
    plot_embedding(
        adapter,
        embed,
        out,
        split=split or "test",
        max_images=1000 if max_images is None else max_images,
        seed=seed or 0,
        backbone=backbone,
        weights=weights,
        skip_unreadable=skip_unreadable,
        as_json=as_json,
    )


def _refuse_idle(flags: dict[str, Any], how: str) -> None:
    for name, value in flags.items():
        if value is not None and value != []:
            raise ConfigError(f"{name} has no effect {how} --embed.")
