"""What references predict: the same for every row, and what gradient boosting makes of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lossbench.core import DatasetInfo, Splits

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT, BOOSTING = "constant", "gradient boosting"
HALF = 0.5  # of an example: how often a class occurs that has none in the training split

Predict = Callable[[type[Any], Splits, int], "tuple[Tensor, Tensor]"]


def constant(task: type[Any], splits: Splits, seed: int) -> tuple[Tensor, Tensor]:
    """The same for every row of validation and test: the training median, or the log-odds or log-shares of classes."""
    import numpy as np
    import torch

    train, info = splits.train, splits.info
    weights = np.ones(len(train)) if train.weights is None else train.weights.double().numpy()
    if task.estimator == "regressor":
        targets = train.targets.double().numpy()
        if train.weights is None:
            middle = np.median(targets, 0)
        else:
            middle = np.quantile(targets, 0.5, 0, weights=weights, method="inverted_cdf")
        row = torch.tensor(middle, dtype=torch.float32)
    else:
        shares = np.bincount(train.targets.long().numpy(), weights, minlength=_classes(info))
        shares = np.where(shares > 0, shares, HALF) / shares.sum()
        row = _outputs(task, info, torch.tensor(np.log(shares)))
    return row.expand(len(splits.validation), *row.shape), row.expand(len(splits.test), *row.shape)


def boosting(task: type[Any], splits: Splits, seed: int) -> tuple[Tensor, Tensor]:
    """Gradient boosting of trees by scikit-learn, with its defaults, stopped early on the validation split."""
    import torch

    train, validation = splits.train, splits.validation
    parts = [split.inputs.numpy() for split in (validation, splits.test)]
    if task.estimator == "regressor":
        columns = [
            _fitted("Regressor", splits, seed, train.targets[:, k].numpy(), validation.targets[:, k].numpy())
            for k in range(train.targets.shape[1])
        ]
        found = [torch.stack([torch.tensor(one.predict(part)) for one in columns], -1).float() for part in parts]
    else:
        one = _fitted("Classifier", splits, seed, train.targets.long().numpy(), validation.targets.long().numpy())
        logits = [_class_logits(one, part, _classes(splits.info), HALF / len(train)) for part in parts]
        found = [_outputs(task, splits.info, each) for each in logits]
    return found[0], found[1]


def _fitted(kind: str, splits: Splits, seed: int, targets: Any, held_out: Any) -> Any:
    from sklearn import ensemble

    train, validation = splits.train, splits.validation
    categories = [column.levels > 0 for column in splits.info.columns]
    model = getattr(ensemble, f"HistGradientBoosting{kind}")(
        categorical_features=categories if any(categories) else None, early_stopping=True, random_state=seed
    )
    return model.fit(
        train.inputs.numpy(),
        targets,
        sample_weight=None if train.weights is None else train.weights.numpy(),
        X_val=validation.inputs.numpy(),
        y_val=held_out,
        sample_weight_val=None if validation.weights is None else validation.weights.numpy(),
    )


def _class_logits(model: Any, inputs: Any, classes: int, absent: float) -> Tensor:
    """Log-probabilities [n, classes] of a classifier; classes that it has not seen get the probability `absent`."""
    import torch

    raw = torch.tensor(model.decision_function(inputs))
    if raw.dim() == 1:  # two classes
        raw = torch.stack([torch.zeros_like(raw), raw], -1)
    logits = torch.full((len(raw), classes), math.log(absent), dtype=raw.dtype)
    logits[:, torch.tensor(model.classes_).long()] = raw.log_softmax(-1)
    return logits


def _outputs(task: type[Any], info: DatasetInfo, logits: Tensor) -> Tensor:
    """Logits [..., classes] as the task predicts them: of two classes, one logit where it has one output."""
    return ((logits[..., 1] - logits[..., 0]) if task.outputs(info) == 1 else logits).float()


def _classes(info: DatasetInfo) -> int:
    return max(2, len(info.classes))


PREDICTED: Mapping[str, Predict] = {CONSTANT: constant, BOOSTING: boosting}
"""How each reference predicts validation and test, by its name, from the class of the task, the splits and the seed."""
