"""Settings as frozen dataclasses; the command line is generated from them: a field's name is its flag.

From above: errors. Never: anything that computes, torch included.
"""

from e2vpt.config.images import DataConfig as DataConfig
from e2vpt.config.methods import MethodConfig as MethodConfig
from e2vpt.config.prompts import PromptConfig as PromptConfig
from e2vpt.config.protocol import GridConfig as GridConfig
from e2vpt.config.pruning import PruneConfig as PruneConfig
from e2vpt.config.search import SearchConfig as SearchConfig
from e2vpt.config.training import TrainConfig as TrainConfig
