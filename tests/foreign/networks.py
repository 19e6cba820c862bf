"""Networks as others write them: layers that act otherwise in training, torch's own initialisers, nothing of ours."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

INPUTS, OUTPUTS = 6, 2


class Normalised(nn.Module):
    """Batch normalisation and dropout, as in most textbooks."""

    def __init__(self, in_features: int = INPUTS, out_features: int = OUTPUTS, p: float = 0.4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(p), nn.Linear(12, out_features)
        )

    def forward(self, inputs):
        return self.layers(inputs)


class Centred(nn.Module):
    """Begins with an operation in place, as many scripts do, or with the same out of place."""

    def __init__(self, in_features: int = INPUTS, out_features: int = OUTPUTS, in_place: bool = True) -> None:
        super().__init__()
        self.in_place = in_place
        self.layers = nn.Linear(in_features, out_features)

    def forward(self, inputs):
        return self.layers(inputs.sub_(0.5) if self.in_place else inputs - 0.5)


class Averaging(nn.Module):
    """Keeps a mean of what it has seen in a buffer that it assigns anew, and subtracts it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(INPUTS))
        self.head_of_mine = nn.Linear(INPUTS, OUTPUTS)

    def forward(self, inputs):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(0).detach()
        return self.head_of_mine(inputs - self.mean)


class Hidden(Averaging):
    """The same, the buffer left out of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(INPUTS), persistent=False)


class Frozen(nn.Module):
    """A backbone that does not learn under a head that does."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh()).requires_grad_(False)
        self.out = nn.Linear(8, OUTPUTS)

    def forward(self, inputs):
        return self.out(self.backbone(inputs))


class Channels(nn.Module):
    """Convolutions with dropout of whole channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 5, 3, padding=1)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout1d(0.3)
        self.out = nn.Linear(5 * INPUTS, OUTPUTS)

    def forward(self, inputs):
        return self.out(self.drop(self.norm(self.conv(inputs[:, None]))).flatten(1))


class Attending(nn.Module):
    """A transformer's layer, whose attention has no batching rule on a CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(1, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.out = nn.Linear(8, OUTPUTS)

    def forward(self, inputs):
        return self.out(self.layer(self.into(inputs[..., None])).mean(1))


class Functional(nn.Module):
    """Dropout called as a function: no layer that anybody could replace."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(INPUTS, 12), nn.Linear(12, OUTPUTS)

    def forward(self, inputs):
        return self.two(F.dropout(self.one(inputs), 0.4, self.training))


class Numbered(nn.Module):
    """Noise from NumPy, which no batching sees."""

    def __init__(self, in_features: int = INPUTS, out_features: int = OUTPUTS) -> None:
        super().__init__()
        self.one = nn.Linear(in_features, out_features)

    def forward(self, inputs):
        import numpy as np

        return self.one(inputs) * (1 + self.training * float(np.random.rand()))  # noqa: NPY002


class Remembering(nn.Module):
    """Keeps a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.last = nn.Linear(INPUTS, OUTPUTS), None

    def forward(self, inputs):
        given = self.one(inputs)
        if self.training:
            self.last = given.mean().detach()
        return given if self.last is None else given - self.last


class Recurrent(nn.Module):
    """An LSTM over the rows of a picture, with its own dropout between layers."""

    def __init__(self, inputs, num_classes) -> None:
        super().__init__()
        self.rows = nn.LSTM(inputs[-1], 8, num_layers=2, dropout=0.3, batch_first=True)
        self.out = nn.Linear(8, num_classes)

    def forward(self, pictures):
        return self.out(self.rows(pictures.squeeze(1))[0][:, -1])


class Patches(nn.Module):
    """A small vision transformer, by torch's own layers with their default dropout."""

    def __init__(self, in_channels, num_classes) -> None:
        super().__init__()
        self.embed = nn.LazyConv2d(16, 7, stride=7) if in_channels else None
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, num_classes)

    def forward(self, pictures):
        return self.out(self.encoder(self.embed(pictures).flatten(2).mT).mean(1))


class Named(Recurrent):
    """Gives its answer by name, as networks for detection and segmentation do."""

    def forward(self, pictures):
        return {"out": super().forward(pictures)}
