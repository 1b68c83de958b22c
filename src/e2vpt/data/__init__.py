"""Image-classification tasks, from folders, archives, tables and data sets to batches of tensors.

randomness.py   random choices that depend on named numbers only
pixels.py       any pixel format to 8-bit RGB
images.py       one image: where it lies, decoding, finding every broken one
task.py         a task and its splits, checked
splits.py       names of splits; splitting off what the data does not have
listing.py      what lies in a folder or a .tar
folders.py      class folders
tables.py       CSV files
hub.py          Hugging Face data sets
objects.py      torchvision-style data set objects
tfrecord.py     TFRecord files and the examples in them, without TensorFlow
tfds.py         data sets that TensorFlow Datasets prepared
image_lists.py  train800.txt and its like beside images
vtab_tasks.py   the 19 tasks of VTAB-1k: slices and labels
vtab_hub.py     them as Hugging Face data sets
vtab.py         reading them from whichever source
matlab*.py      whole numbers and texts of .mat files
fgvc*.py        the five fine-grained data sets from their archives' layouts
headers.py      format and size of stored images, held to the official ones
check.py        is a directory the published benchmark
preprocess.py   image to tensor, augmentation
batches.py      which images meet in which batch
loaders.py      splits to batches of tensors

task = load_task("pets.tar", DataConfig())
loader = make_loader(task.train, preprocessing_for(backbone, DataConfig()), batch_size=64, shuffle=True)
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from e2vpt.config.settings import DataConfig
from e2vpt.data.batches import epoch_batches
from e2vpt.data.folders import load_folder, load_tar
from e2vpt.data.hub import load_hub
from e2vpt.data.images import (
    ImageFile,
    ImageInMemory,
    ImageSource,
    Progress,
    decode,
    image_suffixes,
    verify_images,
)
from e2vpt.data.loaders import Loader, make_loader
from e2vpt.data.objects import from_datasets
from e2vpt.data.preprocess import Preprocessing, preprocessing_for
from e2vpt.data.samples import TaskDataset
from e2vpt.data.splits import build_task, stratified_split
from e2vpt.data.tables import load_table
from e2vpt.data.task import Split, Task
from e2vpt.data.transforms import eval_transform, train_transform
from e2vpt.errors import DataError

__all__ = [
    "ImageFile",
    "ImageInMemory",
    "ImageSource",
    "Loader",
    "Preprocessing",
    "Progress",
    "Split",
    "Task",
    "TaskDataset",
    "build_task",
    "decode",
    "epoch_batches",
    "eval_transform",
    "from_datasets",
    "image_suffixes",
    "load_folder",
    "load_hub",
    "load_table",
    "load_tar",
    "load_task",
    "make_loader",
    "preprocessing_for",
    "stratified_split",
    "train_transform",
    "verify_images",
]

_ACCEPTED = "a folder of class folders, a .tar of it, a .csv of path,label[,split], or hf:NAME"


def load_task(
    source: str | PathLike[str],
    config: DataConfig | None = None,
    *,
    verify: bool = True,
    progress: Progress | None = None,
) -> Task:
    """The task at `source`: a folder of class folders, a .tar of it, a .csv, or `hf:NAME`.

    With `verify`, every image is decoded once, calling `progress(done, total)`.

    Raises:
        UnreadableImages: naming every image that does not decode.
        DataError: anything else that is wrong with the data.
        MissingExtra: `hf:` without the `datasets` package.
    """
    task = _load(source, config or DataConfig())
    if verify:
        verify_images([image for split in task.splits().values() for image in split.images], progress)
    return task


def _load(source: str | PathLike[str], config: DataConfig) -> Task:
    if isinstance(source, str) and source.startswith("hf:"):
        return load_hub(source, config)
    path = Path(source).expanduser()
    if path.is_dir():
        return load_folder(path, config)
    if not path.exists():
        raise DataError(f"{source} does not exist. Expected {_ACCEPTED}.")
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return load_tar(path, config)
    if suffix == ".csv":
        return load_table(path, config)
    raise DataError(
        f"{source} is none of what can be read. Expected {_ACCEPTED}; unpack other archives first."
    )
