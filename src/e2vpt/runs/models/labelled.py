"""Which labelled images an adapter is evaluated on, and what has to be known about them.

Any labelled images will do: the adapter brings the classes, so no rule of training applies to them. Data with
splits are asked for one of them. Data without splits are used whole, unless they are the images of the run:
then the split it was trained with is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from e2vpt.adapters.info import AdapterInfo
from e2vpt.config.images import WhichSplit
from e2vpt.data import ImageSource, OnProgress, Split
from e2vpt.data.decoding.images import unreadable_images
from e2vpt.data.sources.splits import Labelled, LabelledData
from e2vpt.errors import DataError, UnreadableImages, visible
from e2vpt.runs.folders.identity import ImageRow, digests


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Images to evaluate on, their labels numbered as the adapter's classes are.

    Attributes:
        images: with labels.
        which: the split they are.
        num_trained_on: how many of them the run trained on, or chose its best epoch by; not counted where
            just those were asked for.
        notes: what a person has to know about the choice, a sentence each.
        left_out: images that did not decode and were left out, each with the reason.
    """

    images: Split
    which: WhichSplit
    num_trained_on: int
    notes: tuple[str, ...]
    left_out: dict[str, str]


def labelled_images(
    data: LabelledData,
    which: WhichSplit,
    info: AdapterInfo,
    run: Sequence[ImageRow] | None,
    progress: OnProgress | None = None,
    *,
    skip_unreadable: bool = False,
) -> Labels:
    """The images of `data` that `which` means; `run` are those of the adapter's run, None where not known.

    With `skip_unreadable`, those that do not decode are left out, unless that is all of them.

    Raises:
        DataError: the data have no such split, or a class that the adapter does not know.
        UnreadableImages: images that do not decode, and are not to be left out.
    """
    if not isinstance(which, str) or which not in get_args(WhichSplit):
        raise DataError(f"split is {which!r}; expected one of {', '.join(get_args(WhichSplit))}.")
    everything = [entry for split in data.found.values() for entry in split]
    chosen = everything if which == "all" else data.found.get(which, everything)
    if not chosen:
        raise DataError(f"{data.name} holds no labelled images. Add images to its class folders.")
    _check_classes(data.name, chosen, info)
    own = which == "all" or which in data.found
    whole = not own and "all" in data.found and which == "test"
    if run is None and not own and not whole:
        raise DataError(_no_such_split(data, which))
    bad = unreadable_images([image for image, _ in chosen], progress)
    chosen = [(image, label) for image, label in chosen if image.name not in bad]
    if bad and not (skip_unreadable and chosen):
        raise UnreadableImages(bad)
    in_run = None if run is None else _splits_in_run([image for image, _ in chosen], run)
    notes = []
    if not own:
        places = [i for i, name in enumerate(in_run or ()) if name == which]
        if in_run and places and None not in in_run:
            chosen, in_run = [chosen[i] for i in places], [which] * len(places)
            notes.append(f"These are the images of the run; of its own splits, {which} is used.")
        elif whole:
            which = "all"
            notes.append(_used_whole(data.name, len(chosen), run is not None))
        else:
            raise DataError(_no_such_split(data, which))
    trained = sum(name in ("train", "val") for name in in_run or ()) if which in ("test", "all") else 0
    if trained:
        notes.append(
            f"Warning: {trained} of {len(chosen)} images were used in training (to learn from, or to choose "
            "the best epoch); on those an adapter looks better than it is."
        )
    number = {name: index for index, name in enumerate(info.classes)}
    split = Split(
        images=tuple(image for image, _ in chosen), labels=tuple(number[name] for _, name in chosen)
    )
    return Labels(images=split, which=which, num_trained_on=trained, notes=tuple(notes), left_out=bad)


def _check_classes(name: str, chosen: Labelled, info: AdapterInfo) -> None:
    unknown = sorted({label for _, label in chosen} - set(info.classes))
    if unknown:
        raise DataError(
            f"{name} has classes the adapter does not know: {', '.join(unknown[:10])}. "
            f"It knows {', '.join(info.classes[:10])}{', ...' if len(info.classes) > 10 else ''}."
        )


def _splits_in_run(images: Sequence[ImageSource], run: Sequence[ImageRow]) -> list[str | None]:
    """The split that the run had each image in, by content; None for an image it did not have."""
    # An image that is in several splits of the run counts as trained on.
    order = {"train": 0, "val": 1, "test": 2}
    split_of = {
        row["digest"]: row["split"] for row in sorted(run, key=lambda row: -order.get(row["split"], 0))
    }
    return [split_of.get(digest) for digest in digests(images)]


def _used_whole(name: str, count: int, has_run: bool) -> str:
    text = f"{visible(name)} has no splits, so all its {count} images are used."
    if has_run:
        return text
    return f"{text} Whether some of them were trained on is not known: no run folder is around this adapter."


def _no_such_split(data: LabelledData, which: str) -> str:
    if which in data.without_labels:
        return f"{data.name}: its {which} images have no labels. Choose another --split: {_names(data)}."
    if "all" in data.found:
        return f"{data.name} has no splits. Leave --split out, or say --split all, to use all its images."
    return f"{data.name} has no {which} images, only {_names(data)}. Choose another --split, or all."


def _names(data: LabelledData) -> str:
    return ", ".join(data.found)
