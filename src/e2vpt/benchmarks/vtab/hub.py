"""Tasks of VTAB-1k that somebody put among the Hugging Face data sets: one data set or configuration a task.

Most of what the Hub has of VTAB is whole data sets, in which the official 800 and 200 images cannot be found:
the order in which TFDS stores the images defines them. So only data of exactly those sizes is taken.

Of a split that holds all 1000, the first 800 train and the last 200 validate. That is the official division
only if the maker put the one behind the other. Read in one go by TFDS, as for train800val200.txt by NOAH's
get_vtab1k.py, the two are mixed, 16 images at a time. The 1000 together are the official ones either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2vpt.benchmarks.vtab.data import VtabData
from e2vpt.benchmarks.vtab.image_lists import list_folders
from e2vpt.benchmarks.vtab.tasks import TRAIN_IMAGES, VAL_IMAGES, VtabTask
from e2vpt.data.hub import Named, find_columns, open_hub, row_images, split_keys
from e2vpt.data.splits import SplitName
from e2vpt.data.task import Split
from e2vpt.errors import DataError

_Parts = dict[SplitName, tuple[str, range]]
"""The split of the data set, and which of its rows, that make each of ours."""
_OWN_NAMES: dict[str, SplitName] = {"train800": "train", "val200": "val", "train800val200": "train"}
"""What VTAB calls splits, and what else they may be called."""


def read_vtab_hub(template: str, task: VtabTask) -> VtabData:
    """The task in `hf:NAME-{task}`, `hf:NAME:{task}` (a configuration) or `hf:/path/{task}` (save_to_disk).

    For `{task}` stands VTAB's name of the task or, where there is no such data set, the usual name of its
    folder of image lists (`list_folders`). Splits are train800, val200 and test, or train, val (valid,
    validation) and test of the same sizes, or train800val200 (or train) of 1000 images and test. Columns are
    found as in `load_hub`; labels are numbers from 0. Images stay as they are and are read when opened.

    Raises:
        MissingExtra: `datasets` is not installed.
        DataError: no `{task}`, no data set of any of the names, other splits or sizes, another number of
            classes, or labels that are none of them.
    """
    source, loaded = _open(template, task)
    parts = _parts(source, loaded)
    named: Named = {which: loaded[key] for which, (key, _) in parts.items()}
    image, label = find_columns(source, named)
    classes = _classes(source, task, named, label)
    train, val, test = (
        _split(f"{source} {key}", loaded[key], image, label, len(classes)).subset(chosen)
        for key, chosen in parts.values()
    )
    made_of = ", ".join(f"{key}[{chosen.start}:{chosen.stop}]" for key, chosen in parts.values())
    return VtabData(
        name=task.name,
        source="hugging face",
        where=f"{source}: {made_of}",
        classes=classes,
        train=train,
        val=val,
        test=test,
    )


def has_vtab_hub(template: str, task: VtabTask) -> bool:
    """Whether a folder that `template` names is there; granted where it names none of this machine."""
    local = template.removeprefix("hf:").startswith(("/", ".", "~"))
    addresses = [source.removeprefix("hf:") for source in _addresses(template, task)]
    return not local or any(Path(address).expanduser().is_dir() for address in addresses)


def _addresses(template: str, task: VtabTask) -> list[str]:
    """VTAB's own name of the task first."""
    return [template.replace("{task}", name) for name in dict.fromkeys((task.name, *list_folders(task.name)))]


def _open(template: str, task: VtabTask) -> tuple[str, Any]:
    """The first data set that is there, with its address."""
    if "{task}" not in template:
        raise DataError(
            f"{template} would be the same data for every task. Write {{task}} where the name of the task "
            "belongs, as in hf:somebody/vtab-1k-{task}, hf:somebody/vtab-1k:{task} or hf:/data/vtab/{task}."
        )
    problems: list[str] = []
    for source in _addresses(template, task):
        try:
            return source, open_hub(source)
        except DataError as error:
            problems.append(f"  {error}")
    raise DataError(f"{template} holds no data of {task.name}. Tried:\n" + "\n".join(problems))


def _parts(source: str, loaded: Any) -> _Parts:
    if not isinstance(loaded, Mapping):
        raise _unusable(source, {"one split without a name": len(loaded)})
    counts = {str(key): len(rows) for key, rows in loaded.items()}
    keys = split_keys(source, loaded)
    tested, whole = keys.get("test", ""), TRAIN_IMAGES + VAL_IMAGES
    train, val, both = (own if own in counts else keys.get(which, "") for own, which in _OWN_NAMES.items())
    if counts.get(tested) and counts.get(train) == TRAIN_IMAGES and counts.get(val) == VAL_IMAGES:
        first, second = (train, range(TRAIN_IMAGES)), (val, range(VAL_IMAGES))
    elif counts.get(tested) and counts.get(both) == whole and not val:
        first, second = (both, range(TRAIN_IMAGES)), (both, range(TRAIN_IMAGES, whole))
    else:
        raise _unusable(source, counts)
    return {"train": first, "val": second, "test": (tested, range(counts[tested]))}


def _unusable(source: str, counts: Mapping[str, int]) -> DataError:
    found = ", ".join(f"{key} ({count})" for key, count in counts.items()) or "no splits"
    train, val = TRAIN_IMAGES, VAL_IMAGES
    return DataError(
        f"{source} has {found}; expected train800 ({train}), val200 ({val}) and test, or the same called "
        f"train, val and test, or train800val200 or train ({train + val}) and test. The official images "
        "cannot be found among others: use data made for VTAB-1k, or prepare it with TFDS."
    )


def _classes(source: str, task: VtabTask, named: Named, label: str) -> tuple[str, ...]:
    """The names of the label column; numbers if it has none."""
    names = [tuple(getattr(rows.features[label], "names", None) or ()) for rows in named.values()]
    if len(set(names)) > 1:
        raise DataError(
            f"{source}: the splits name the classes of {label!r} differently. Cast them all to the same."
        )
    if names[0] and len(names[0]) != task.num_classes:
        raise DataError(
            f"{source}: {label!r} has {len(names[0])} classes; {task.name} has {task.num_classes}. "
            "Is it the right data?"
        )
    return names[0] or tuple(map(str, range(task.num_classes)))


def _split(where: str, rows: Any, image: str, label: str, num_classes: int) -> Split:
    labels = rows.with_format(None)[label][:]
    bad = [
        f"{row} ({value!r})"
        for row, value in enumerate(labels)
        if not (isinstance(value, int) and 0 <= value < num_classes)
    ]
    if bad:
        raise DataError(
            f"{where}: {len(bad)} row(s) with a label in {label!r} that is no number from 0 to "
            f"{num_classes - 1}, the first are {', '.join(bad[:20])}. Number the classes as VTAB-1k does."
        )
    return Split(images=tuple(row_images(where, rows, image)), labels=tuple(labels))
