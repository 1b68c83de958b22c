"""Mixed visual prompts (E²VPT) on frozen timm backbones."""

from e2vpt.config import DataConfig as DataConfig
from e2vpt.config import PromptConfig as PromptConfig
from e2vpt.config import TrainConfig as TrainConfig
from e2vpt.model import disabled as disabled
from e2vpt.model import init_from_images as init_from_images
from e2vpt.model import prompt as prompt
from e2vpt.model import prompt_layers as prompt_layers
