"""Which splits of a Hugging Face data set are train, val and test, and which of its columns hold what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from e2vpt.data.sources.splits import SplitName, one_spelling, split_name
from e2vpt.errors import DataError, needs

Named = dict[SplitName | Literal["all"], Any]
"""Rows of `datasets` by split, "all" where there are none."""
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_LABEL_TYPES = ("string", "large_string", "int64", "int32", "uint8")
_IMAGE_COLUMNS = ("image", "img", "images")


def hf_library() -> Any:
    """The `datasets` package.

    Raises:
        MissingExtra: it is not installed.
    """
    with needs("hf", "Hugging Face data sets need `datasets`"):
        import datasets
    return datasets


def split_keys(source: str, loaded: Mapping[str, Any]) -> dict[SplitName, str]:
    """What the data set calls its splits train, val and test, as far as it has them.

    Raises:
        DataError: two splits that mean the same.
    """
    keys: dict[SplitName, str] = {}
    for key in map(str, loaded):
        which = split_name(key)
        if which is not None and which in keys:
            raise DataError(f"{source} has two splits that mean {which}: {', '.join(loaded)}.")
        if which is not None:
            keys[which] = key
    return keys


def find_columns(source: str, named: Named) -> tuple[str, str]:
    """The names of the columns with images and with labels, the same in all of `named`; see `read_hub`.

    Raises:
        DataError: none or several candidates, or a split without them.
    """
    first, *others = named
    features = named[first].features
    image, label = _image_column(source, features), _label_column(source, features)
    without = [which for which in others if not {image, label} <= set(named[which].features)]
    if without:
        raise DataError(
            f"{source}: no columns {image!r} and {label!r} in {', '.join(without)}; {first} has them."
        )
    return image, label


def by_split(source: str, loaded: Mapping[str, Any]) -> Named:
    """The rows of the splits that mean train, val or test.

    Raises:
        DataError: there are none, or two that mean the same.
    """
    keys = split_keys(source, loaded)
    if not keys:
        raise DataError(
            f"{source} has no split called train, val or test; found {', '.join(loaded) or 'none'}."
        )
    return {which: loaded[key] for which, key in keys.items()}


def without_labels(source: str, named: Named) -> tuple[SplitName, ...]:
    """Of val and test, those that have no column of labels, or not one label in it."""
    labelled = "train" if "train" in named else next(iter(named))
    _, label = find_columns(source, {labelled: named[labelled]})
    others = (which for which in ("val", "test") if which in named and which != labelled)
    return tuple(
        which
        for which in others
        if label not in named[which].features or set(named[which][label]) <= {None, "", -1}
    )


def _image_column(source: str, features: Mapping[str, Any]) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, hf_library().Image)]
    return _only(source, "image column (type Image)", found, _IMAGE_COLUMNS, features)


def _label_column(source: str, features: Mapping[str, Any]) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, hf_library().ClassLabel)]
    plain = [name for name in _LABEL_COLUMNS[:2] if getattr(features.get(name), "dtype", "") in _LABEL_TYPES]
    return _only(
        source, "label column (type ClassLabel, or called label)", found or plain, _LABEL_COLUMNS, features
    )


def _only(
    source: str, what: str, found: list[str], preferred: tuple[str, ...], features: Mapping[str, Any]
) -> str:
    """The one candidate, or the first by a preferred name."""
    named = [name for name in preferred if name in found]
    if len(found) == 1 or named:
        return found[0] if len(found) == 1 else named[0]
    columns = ", ".join(features)
    problem = f"several columns could be the {what}: {', '.join(found)}" if found else f"no {what}"
    raise DataError(f"{source}: {problem}; its columns are {columns}. Rename or cast the one to use.")


def names_by_row(where: str, rows: Any, column: str) -> list[str]:
    """The class name of every row.

    Raises:
        DataError: a row has no label.
    """
    values, names = list(rows[column]), getattr(rows.features[column], "names", None)
    bad = [i for i, value in enumerate(values) if value is None or (names and not 0 <= value < len(names))]
    if bad:
        shown = ", ".join(map(str, bad[:20]))
        raise DataError(f"{where}: {len(bad)} row(s) have no label, the first are {shown}. Filter them out.")
    return [names[value] if names else one_spelling(str(value)) for value in values]


def classes_in_order(names: list[str]) -> list[str]:
    """Distinct names sorted, numerically where all are numbers."""
    distinct = set(names)
    numbers = all(name.isdecimal() for name in distinct)
    return sorted(distinct, key=lambda name: (int(name) if numbers else 0, name))
