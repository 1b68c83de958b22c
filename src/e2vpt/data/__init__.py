"""Image-classification tasks, from folders, archives, tables and data sets to batches of tensors.

May import: errors, config, files.
Never: prompting, and anything that knows a benchmark.

randomness.py   random choices that depend on named numbers only
pixels.py       any pixel format to 8-bit RGB
formats.py      which files are images
cost.py         what decoding an image costs
room.py         how many pixels are decoded at once
images.py       one image: where it lies, decoding, finding every broken one
task.py         a task and its splits, checked
repeats.py      images that are in two classes or two splits
splits.py       names of splits; splitting off what the data does not have
listing.py      what lies in a folder or a .tar
archives.py     .zip, and .tar.gz
folders.py      class folders
tables.py       CSV files
hub.py          Hugging Face data sets
hub_columns.py  which of their columns are images and labels
objects.py      torchvision-style data set objects
load.py         a task from whichever of these
preprocess.py   how images become tensors
transforms.py   image to tensor, augmentation
samples.py      one image of a split, read when asked for
batches.py      which images meet in which batch
loaders.py      splits to batches of tensors

task = load_task("pets.tar", DataConfig())
loader = make_loader(task.train, preprocessing_for(backbone, DataConfig()), batch_size=64, shuffle=True)
"""

from e2vpt.data.batches import epoch_batches
from e2vpt.data.formats import image_suffixes
from e2vpt.data.images import (
    ImageFile,
    ImageInMemory,
    ImageSource,
    OnProgress,
    decode,
    verify_images,
)
from e2vpt.data.load import load_task
from e2vpt.data.loaders import Loader, make_loader
from e2vpt.data.objects import from_datasets
from e2vpt.data.preprocess import Preprocessing, preprocessing_for
from e2vpt.data.samples import TaskDataset
from e2vpt.data.splits import build_task, stratified_split
from e2vpt.data.task import Split, Task
from e2vpt.data.transforms import eval_transform, train_transform

__all__ = [
    "ImageFile",
    "ImageInMemory",
    "ImageSource",
    "Loader",
    "OnProgress",
    "Preprocessing",
    "Split",
    "Task",
    "TaskDataset",
    "build_task",
    "decode",
    "epoch_batches",
    "eval_transform",
    "from_datasets",
    "image_suffixes",
    "load_task",
    "make_loader",
    "preprocessing_for",
    "stratified_split",
    "train_transform",
    "verify_images",
]
