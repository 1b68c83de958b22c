"""What explain does once its flags are read: pages, pictures, and what is printed of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from e2vpt.config.images import WhichSplit
from e2vpt.errors import ConfigError, UnreadableImages, visible
from e2vpt.files.atomic import make_folder, write_atomic
from e2vpt.files.hub import repository_of
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
from e2vpt.runs.models.load import load
from e2vpt.runs.models.predict import find_images
from e2vpt.runs.models.task_model import TaskModel
from e2vpt.runs.progress import image_check, left_out_text, percent, say

MOST_PICTURES = 50


def explain_pictures(
    adapter: Path,
    pictures: list[str],
    out: Path | None,
    *,
    beside: list[str],
    label: str | None,
    steps: int,
    backbone: str | None,
    weights: Path | None,
    skip_unreadable: bool,
    as_json: bool,
) -> None:
    """Where models look, a picture each and a page of all."""
    out = _place(out, adapter)
    captum_attr()
    models = _models(adapter, beside, backbone, weights, label)
    explained = list(_explained(models, pictures, label, steps, skip_unreadable))
    pngs = {f"{n:02d}-{_safe(rows[0].file)}.png": explain_png(rows) for n, rows in enumerate(explained, 1)}
    written = _write(out, {"explain.html": explain_page(explained), **pngs})
    for rows in explained:
        for row in rows:
            print(json.dumps(row.figures()) if as_json else _line(row, len(rows) > 1), flush=True)
    _say_written(written, as_json)


def plot_embedding(
    adapter: Path,
    data: str,
    out: Path | None,
    *,
    split: WhichSplit,
    max_images: int,
    seed: int,
    backbone: str | None,
    weights: Path | None,
    skip_unreadable: bool,
    as_json: bool,
) -> None:
    """How well classes are separated before and after adaptation, in figures and as a page."""
    out = _place(out, adapter)
    check_embeds()
    model = load(adapter, backbone, weights=weights)
    with image_check("Embedding") as update:
        found = embed_before_after(
            model,
            _name(adapter),
            data,
            split=split,
            max_images=max_images,
            seed=seed,
            backbone=backbone,
            weights=weights,
            skip_unreadable=skip_unreadable,
            on_images=update,
            on_note=say,
        )
    pages = {"embedding.html": embedding_page(found), "embedding.png": embedding_png(found)}
    _print_separation(found, _write(out, pages), as_json)


def _place(out: Path | None, adapter: Path) -> Path:
    """Where to; what is missing is said before anything slow begins."""
    if out is None:
        path = adapter_path(adapter)
        out = Path("explain") if repository_of(path) else path.parent / "explain"
    check_folder_place(out)
    matplotlib_module()
    return out


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
