"""Lightning takes a prompted model: trains it, and its checkpoint reloads to equal logits."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
from support.tasks_for_tests import TINY_PREPROCESSING, batches, tiny_vit
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import e2vpt

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning.*"),  # its use of older names of torch, and advice
]


class PromptTuning(lightning.LightningModule):
    """What the guide shows, of a tiny backbone."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(seed)
        self.model = tiny_vit(torch.float32)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.model(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=1e-2)


def test_it_trains_and_reloads_to_equal_logits(tmp_path: Path) -> None:
    ((images, labels),) = batches([24], torch.float32)
    module = PromptTuning(seed=3)
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    trainer = lightning.Trainer(
        max_epochs=3,
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(images, labels), batch_size=8))
    changed = {name for name, value in module.model.state_dict().items() if not value.equal(before[name])}
    assert changed == {name for name, p in module.model.named_parameters() if p.requires_grad}
    (path,) = tmp_path.rglob("*.ckpt")
    again = PromptTuning.load_from_checkpoint(path)
    expected = module.model.eval()(images)
    assert again.model.eval()(images).equal(expected)
    assert all(layer.key is layer.value for layer in e2vpt.prompt_layers(again.model))
    e2vpt.save_adapter(module.model, tmp_path / "task.safetensors", preprocessing=TINY_PREPROCESSING)
    loaded, _ = e2vpt.load_adapter(tmp_path / "task.safetensors", PromptTuning(seed=3).model)
    assert loaded(images).equal(expected)
