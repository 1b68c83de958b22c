"""The command that shows what was learned: explain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from e2vpt.cli.options import DATA_HELP, AdapterArgument, AsJson, Backbone, SkipUnreadable, Weights
from e2vpt.errors import ConfigError, UnreadableImages, visible
from e2vpt.files.atomic import make_folder, write_atomic
from e2vpt.files.paths import check_folder_place
from e2vpt.insight.explanations.before_after import MEASURES, SPACES, BeforeAfter, embed_before_after
from e2vpt.insight.explanations.embedding import check_embeds
from e2vpt.insight.explanations.embedding_figure import embedding_png
from e2vpt.insight.explanations.embedding_page import embedding_page
from e2vpt.insight.explanations.explain_figure import explain_png
from e2vpt.insight.explanations.explain_page import explain_page
from e2vpt.insight.explanations.explaining import Explanation, check_knows, explain_image
from e2vpt.insight.explanations.gradients import captum_attr
from e2vpt.insight.explanations.heat import matplotlib_module
from e2vpt.insight.explanations.shares import KINDS
from e2vpt.runs.folders.finding import adapter_path, task_name
from e2vpt.runs.models.labelled import WhichSplit
from e2vpt.runs.models.load import load
from e2vpt.runs.models.predict import find_images
from e2vpt.runs.models.task_model import TaskModel
from e2vpt.runs.progress import image_check, left_out_text, percent, say

_FOLDER = "explain"
MOST_PICTURES = 50


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
        Path | None, typer.Option(help=f"Folder for the page and pictures; {_FOLDER} beside the adapter.")
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
    out = out or adapter_path(adapter).parent / _FOLDER
    check_folder_place(out)
    matplotlib_module()  # what is missing is said before anything slow begins
    if embed is not None:
        check_embeds()
        model = load(adapter, backbone, weights=weights)
        with image_check("Embedding") as update:
            found = embed_before_after(
                model,
                _name(adapter),
                embed,
                split=split or "test",
                max_images=1000 if max_images is None else max_images,
                seed=seed or 0,
                backbone=backbone,
                weights=weights,
                skip_unreadable=skip_unreadable,
                on_images=update,
                on_note=say,
            )
        written = _write(
            out, {"embedding.html": embedding_page(found), "embedding.png": embedding_png(found)}
        )
        _print_separation(found, written, as_json)
        return
    captum_attr()
    models = _models(adapter, beside or [], backbone, weights, label)
    explained = list(_explained(models, pictures or [], label, steps or 32, skip_unreadable))
    pngs = {f"{n:02d}-{_safe(rows[0].file)}.png": explain_png(rows) for n, rows in enumerate(explained, 1)}
    written = _write(out, {"explain.html": explain_page(explained), **pngs})
    for rows in explained:
        for row in rows:
            print(json.dumps(row.figures()) if as_json else _line(row, len(rows) > 1), flush=True)
    _say_written(written, as_json)


def _refuse_idle(flags: dict[str, Any], how: str) -> None:
    for name, value in flags.items():
        if value is not None and value != []:
            raise ConfigError(f"{name} has no effect {how} --embed.")


def _models(
    adapter: Path, beside: list[str], backbone: str | None, weights: Path | None, label: str | None
) -> dict[str, TaskModel]:
    """The run and those beside it by name, longer names where short ones meet."""
    paths = [adapter, *map(Path, beside)]
    names = [_name(path) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError("A run stands beside itself. Name each run once.")
    models = {}
    for name, path in zip(names, paths, strict=True):
        models[name] = load(path, backbone, weights=weights)
        check_knows(name, models[name], label)
    return models


def _name(adapter: Path) -> str:
    return task_name(adapter_path(adapter))


def _explained(
    models: dict[str, TaskModel], pictures: list[str], label: str | None, steps: int, skip_unreadable: bool
) -> Iterator[list[Explanation]]:
    images = find_images(pictures)
    if len(images) > MOST_PICTURES:
        raise ConfigError(f"{len(images)} pictures are too many for one page; name at most {MOST_PICTURES}.")
    problems: dict[str, str] = {}
    with image_check("Explaining") as update:
        for done, image in enumerate(images, 1):
            try:
                yield explain_image(models, image, label=label, steps=steps)
            except UnreadableImages as error:
                problems |= error.problems
            update(done, len(images))
    if problems and (not skip_unreadable or len(problems) == len(images)):
        raise UnreadableImages(problems)
    if problems:
        say(left_out_text(problems))


def _safe(name: str) -> str:
    """A picture's name as part of a file name."""
    return re.sub(r"[^\w.-]+", "-", Path(name).stem)[:80] or "picture"


def _write(out: Path, files: dict[str, bytes]) -> list[Path]:
    make_folder(out)
    for name, content in files.items():
        write_atomic(out / name, content)
    return [out / name for name in files]


def _say_written(written: list[Path], as_json: bool) -> None:
    for path in written[: 1 if len(written) > 3 else 3]:
        text = visible(str(path))
        say(text) if as_json else print(text)


def _line(row: Explanation, with_run: bool) -> str:
    """One model's answer in words."""
    name, score = row.top[0]
    text = f"{visible(row.file)}: {f'{visible(row.run)}: ' if with_run else ''}{visible(name)} {score:.1%}"
    if row.without is not None:
        other, best, _ = row.without
        text += f"; without the prompts {visible(other)} {best:.1%}"
    if row.shares is not None:
        mean = row.shares.by_block().mean(0).tolist()
        text += "; attention " + ", ".join(
            f"{kind} {share:.0%}" for kind, share in zip(KINDS, mean, strict=True) if share > 0
        )
    return text


def _print_separation(found: BeforeAfter, written: list[Path], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.figures()))
        _say_written(written, as_json)
        return
    table = Table(title=f"Class separation of {len(found.files)} images ({found.split})")
    for column in ("where", "figure", "before", "after"):
        table.add_column(column, justify="left" if column in ("where", "figure") else "right", no_wrap=True)
    figures = found.figures()
    for space, words in SPACES.items():
        for figure, what in MEASURES.items():
            shown = percent if figure == "nearest_centroid" else "{:.3f}".format
            table.add_row(words, what, *(shown(figures[when][space][figure]) for when in ("before", "after")))
    Console(highlight=False).print(table)
    _say_written(written, as_json)
