"""Mixed visual prompts (E²VPT) on frozen timm backbones: one small adapter file per image task."""

import typing

from e2vpt.adapters.files import load_adapter as load_adapter
from e2vpt.adapters.files import read_adapter as read_adapter
from e2vpt.adapters.files import save_adapter as save_adapter
from e2vpt.adapters.header import AdapterInfo as AdapterInfo
from e2vpt.backbones.fingerprint import fingerprint as fingerprint
from e2vpt.backbones.load import load_backbone as load_backbone
from e2vpt.benchmarks.compare.compare import Comparison as Comparison
from e2vpt.benchmarks.compare.compare import compare_methods as compare_methods
from e2vpt.benchmarks.compare.entries import ComparedMethod as ComparedMethod
from e2vpt.config import DataConfig as DataConfig
from e2vpt.config import GridConfig as GridConfig
from e2vpt.config import MethodConfig as MethodConfig
from e2vpt.config import PromptConfig as PromptConfig
from e2vpt.config import PruneConfig as PruneConfig
from e2vpt.config import SearchConfig as SearchConfig
from e2vpt.config import TrainConfig as TrainConfig
from e2vpt.data import Preprocessing as Preprocessing
from e2vpt.data import Split as Split
from e2vpt.data import Task as Task
from e2vpt.data import from_datasets as from_datasets
from e2vpt.data import load_task as load_task
from e2vpt.data import make_loader as make_loader
from e2vpt.data import preprocessing_for as preprocessing_for
from e2vpt.errors import AdapterError as AdapterError
from e2vpt.errors import AdapterFormatError as AdapterFormatError
from e2vpt.errors import BackboneError as BackboneError
from e2vpt.errors import BackboneMismatch as BackboneMismatch
from e2vpt.errors import ConfigError as ConfigError
from e2vpt.errors import DataError as DataError
from e2vpt.errors import Diverged as Diverged
from e2vpt.errors import E2VPTError as E2VPTError
from e2vpt.errors import MissingExtra as MissingExtra
from e2vpt.errors import RunError as RunError
from e2vpt.errors import UnreadableImages as UnreadableImages
from e2vpt.errors import UnsupportedBackbone as UnsupportedBackbone
from e2vpt.errors import WeightsError as WeightsError
from e2vpt.methods.adapt import adapt as adapt
from e2vpt.prompting.initial import init_from_images as init_from_images
from e2vpt.prompting.install import prompt as prompt
from e2vpt.prompting.parts import disabled as disabled
from e2vpt.prompting.parts import prompt_layers as prompt_layers
from e2vpt.prompting.prompts import BlockPrompts as BlockPrompts
from e2vpt.pruning.applying import apply as apply
from e2vpt.pruning.applying import visual_kept as visual_kept
from e2vpt.pruning.rewinding import Snapshot as Snapshot
from e2vpt.pruning.rewinding import rewind as rewind
from e2vpt.pruning.rewinding import snapshot as snapshot
from e2vpt.pruning.scores import Scores as Scores
from e2vpt.pruning.scores import score as score
from e2vpt.pruning.selection import Selection as Selection
from e2vpt.pruning.selection import select as select
from e2vpt.runs.folder import RunConfig as RunConfig
from e2vpt.runs.predict import Prediction as Prediction
from e2vpt.runs.protocol import train_by_the_paper as train_by_the_paper
from e2vpt.runs.recipe import Pruned as Pruned
from e2vpt.runs.recipe import train_and_prune as train_and_prune
from e2vpt.runs.reporting import Reporting as Reporting
from e2vpt.runs.run import Trained as Trained
from e2vpt.runs.run import train_run as train_run
from e2vpt.runs.tried import Tried as Tried
from e2vpt.search.here import search_here as search_here
from e2vpt.search.on_cluster import search_on_cluster as search_on_cluster
from e2vpt.search.space import TrialResult as TrialResult
from e2vpt.training.checkpoint import Row as Row
from e2vpt.training.evaluate import Metrics as Metrics
from e2vpt.training.evaluate import evaluate as evaluate
from e2vpt.training.fit import FitResult as FitResult
from e2vpt.training.fit import StepReport as StepReport
from e2vpt.training.fit import fit as fit

__version__ = "0.1.0"

if typing.TYPE_CHECKING:
    from e2vpt.runs.estimator import E2VPTClassifier as E2VPTClassifier


def __getattr__(name: str) -> typing.Any:
    """The classifier needs scikit-learn, which is optional and slow to import: loaded on first use."""
    if name != "E2VPTClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from e2vpt.runs.estimator import E2VPTClassifier

    return E2VPTClassifier
