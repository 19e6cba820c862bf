"""What lossbench is timed against: the shortest loop by hand, and pytorch-lightning as it is usually written."""

from __future__ import annotations

import logging
import time
import warnings
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lossbench.core import Split
from lossbench.core.vision import torchvision
from lossbench.datasets.digits import Digits

transforms = torchvision.transforms

BATCH = 128
QUIET: dict[str, bool] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def net() -> nn.Module:
    """An MLP 784-128-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def by_hand(train: Split) -> float:
    """Seconds an epoch over tensors in memory, with torch's defaults; nothing evaluated, nothing recorded."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    order = torch.randperm(len(train))
    for step in range(len(train) // BATCH):
        index = order[step * BATCH : (step + 1) * BATCH]
        loss = F.cross_entropy(model(train.inputs[index]), train.targets[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def usual_loader(digits: Digits, examples: int) -> DataLoader:
    """The tutorial's DataLoader: torchvision's MNIST, which converts each digit to a PIL image, and its transforms."""

    class InMemory(torchvision.datasets.MNIST):
        def __init__(self) -> None:
            self.data, self.targets = (tensor[:examples] for tensor in digits.train)
            self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
            self.target_transform = None

    return DataLoader(InMemory(), BATCH, shuffle=True, drop_last=True)


def dataloader(loader: DataLoader) -> float:
    """Seconds an epoch of the loop by hand over the usual DataLoader."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    for inputs, targets in loader:
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def lightning(loader: DataLoader) -> float:
    """Seconds an epoch of pytorch-lightning over the usual DataLoader; one metric logged, nothing evaluated."""
    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = net()

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            loss = F.cross_entropy(self.model(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", **QUIET)
    start = time.perf_counter()
    trainer.fit(Module(), loader)
    return time.perf_counter() - start


def lightning_regression(train: Split, validation: Split, loss: str, steps: int, eval_every: int) -> float:
    """Seconds that pytorch-lightning takes to train the regression MLP for `steps` steps on tensors in memory.

    It computes MAE on validation as often as lossbench evaluates, and records nothing.
    """
    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    mean_loss = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[loss]

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            widths = [train.inputs.shape[1], 64, 64, 1]
            first, second, last = (nn.Linear(a, b) for a, b in pairwise(widths))
            self.model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            return mean_loss(self.model(batch[0]), batch[1])

        def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
            self.log("mae", F.l1_loss(self.model(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    loader = DataLoader(TensorDataset(train.inputs, train.targets), 64, shuffle=True, drop_last=True)
    whole = DataLoader(TensorDataset(validation.inputs, validation.targets), len(validation))
    evaluation = {"val_check_interval": eval_every, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(max_steps=steps, accelerator="cpu", **evaluation, **QUIET)
    start = time.perf_counter()
    trainer.fit(Module(), loader, whole)
    return time.perf_counter() - start
