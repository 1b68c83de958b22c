"""Hugging Face data sets: `hf:NAME` from the Hub, `hf:/path` from disk. Needs the `datasets` package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from e2vpt.config import DataConfig
from e2vpt.data.images import ImageSource, decode
from e2vpt.data.splits import SplitName, build_task, split_name
from e2vpt.data.task import Task
from e2vpt.errors import DataError, MissingExtra, UnreadableImages

Named = dict[SplitName | Literal["all"], Any]
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_LABEL_TYPES = ("string", "large_string", "int64", "int32", "uint8")
_IMAGE_COLUMNS = ("image", "img", "images")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowImage:
    """The image in one row of a Hugging Face data set; its bytes are read when opened."""

    name: str
    rows: Any
    column: str
    index: int

    def open(self) -> Image.Image:
        """See `ImageSource.open`."""
        cell = self.rows[self.index][self.column]
        try:
            data = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        except (TypeError, OSError) as error:
            reason = "the cell is empty" if cell is None else str(error)
            raise UnreadableImages({self.name: reason}) from error
        return decode(data, self.name)


def load_hub(source: str, config: DataConfig) -> Task:
    """The task in `hf:NAME` or `hf:/path/to/saved`, images decoded only when used.

    Splits train, val (valid, validation) and test are used, others left alone; a data set without splits is
    split by `config`. The image column is the one of type Image; the label column the one of type ClassLabel,
    or else `label`, whose distinct values then are the classes.

    Raises:
        MissingExtra: `datasets` is not installed.
        DataError: it cannot be loaded, has no or several candidate columns, or rows without a label.
    """
    name = source.removeprefix("hf:")
    loaded = _load(name)
    named: Named = _by_split(source, loaded) if isinstance(loaded, Mapping) else {"all": loaded}
    features = next(iter(named.values())).features
    image, label = _image_column(source, features), _label_column(source, features)
    without = [which for which, rows in named.items() if not {image, label} <= set(rows.features)]
    if without:
        raise DataError(
            f"{source}: no columns {image!r} and {label!r} in {', '.join(without)}; train has them."
        )
    names = {which: _class_names(f"{source} {which}", rows, label) for which, rows in named.items()}
    known = getattr(features[label], "names", None)
    classes = list(known) if known else _in_order(names["all" if "all" in names else "train"])
    found = {
        which: list(zip(_images(source, which, rows, image), names[which], strict=True))
        for which, rows in named.items()
    }
    return build_task(Path(name).name, classes, found, config)


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("Hugging Face data sets need `datasets`: pip install 'e2vpt[hf]'") from error
    return datasets


def _load(name: str) -> Any:
    datasets = _datasets()
    folder = Path(name).expanduser()
    saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(str(folder) if folder.exists() else name)
    except Exception as error:  # Network, authentication, parsing: the library has no common base class.
        raise DataError(
            f"hf:{name} cannot be loaded: {type(error).__name__}: {error}. Expected the name of a data set "
            "on huggingface.co, or a folder written by save_to_disk."
        ) from error


def _by_split(source: str, loaded: Mapping[str, Any]) -> Named:
    named: Named = {}
    for key, rows in loaded.items():
        which = split_name(str(key))
        if which is not None and which in named:
            raise DataError(f"{source} has two splits that mean {which}: {', '.join(loaded)}.")
        if which is not None:
            named[which] = rows
    if "train" not in named:
        raise DataError(f"{source} has no split called train; found {', '.join(loaded) or 'none'}.")
    return named


def _image_column(source: str, features: Mapping[str, Any]) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, _datasets().Image)]
    return _only(source, "image column (type Image)", found, _IMAGE_COLUMNS, features)


def _label_column(source: str, features: Mapping[str, Any]) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, _datasets().ClassLabel)]
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


def _class_names(where: str, rows: Any, column: str) -> list[str]:
    """The class name of every row."""
    values, names = list(rows[column]), getattr(rows.features[column], "names", None)
    bad = [i for i, value in enumerate(values) if value is None or (names and not 0 <= value < len(names))]
    if bad:
        shown = ", ".join(map(str, bad[:20]))
        raise DataError(f"{where}: {len(bad)} row(s) have no label, the first are {shown}. Filter them out.")
    return [names[value] if names else str(value) for value in values]


def _images(source: str, which: str, rows: Any, column: str) -> list[ImageSource]:
    # Undecoded, so that our own decoder names what is broken, and so that other columns are never read.
    raw = rows.with_format(None).select_columns([column]).cast_column(column, _datasets().Image(decode=False))
    return [
        RowImage(name=f"{source} {which}[{i}]", rows=raw, column=column, index=i) for i in range(len(raw))
    ]


def _in_order(names: list[str]) -> list[str]:
    """Distinct names sorted, numerically where all are numbers."""
    distinct = set(names)
    numbers = all(name.isdecimal() for name in distinct)
    return sorted(distinct, key=lambda name: (int(name) if numbers else 0, name))
