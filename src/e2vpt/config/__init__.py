"""Settings as frozen dataclasses; the command line is made from them: a field's name is its flag.

May import: errors.
Never: what computes: settings are read and checked without torch.
"""

from e2vpt.config.images import DataConfig as DataConfig
from e2vpt.config.methods import MethodConfig as MethodConfig
from e2vpt.config.prompts import RECIPE_PROMPTS as RECIPE_PROMPTS
from e2vpt.config.prompts import PromptConfig as PromptConfig
from e2vpt.config.protocol import GridConfig as GridConfig
from e2vpt.config.pruning import PruneConfig as PruneConfig
from e2vpt.config.search import SearchConfig as SearchConfig
from e2vpt.config.training import TrainConfig as TrainConfig
