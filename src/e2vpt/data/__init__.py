"""Image-classification tasks, from folders, archives, tables and data sets to batches of tensors.

May import: errors, config, files.
Never: prompting, and anything that knows a benchmark.

decoding/       one image: which files are images, what decoding costs, pixels; finding every broken one
randomness.py   random choices that depend on named numbers only
task.py         a task and its splits, checked
sources/        a task from class folders, archives, tables, the Hub or data set objects; splits, repeats
preprocess.py   how images become tensors
transforms.py   image to tensor, augmentation
samples.py      one image of a split, read when asked for
batches.py      which images meet in which batch
loaders.py      splits to batches of tensors

task = load_task("pets.tar", DataConfig())
loader = make_loader(task.train, preprocessing_for(backbone, DataConfig()), batch_size=64, shuffle=True)
"""

from e2vpt.data.batches import epoch_batches
from e2vpt.data.decoding.formats import image_suffixes
from e2vpt.data.decoding.images import (
    ImageFile,
    ImageInMemory,
    ImageSource,
    OnProgress,
    decode,
    verify_images,
)
from e2vpt.data.loaders import Loader, make_loader
from e2vpt.data.preprocess import Preprocessing, preprocessing_for
from e2vpt.data.samples import TaskDataset
from e2vpt.data.sources.load import load_task
from e2vpt.data.sources.objects import from_datasets
from e2vpt.data.sources.splits import build_task, stratified_split
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
