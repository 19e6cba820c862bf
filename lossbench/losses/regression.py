"""Losses of a residual r = prediction − target. Terms are means over the outputs, so they do not grow with them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lossbench.core import card, demand


@card(kinds=("regression", "sequence"))
def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error: its minimiser is the mean.

    r²,  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the squared unit of the target.
    Use it when: noise is Gaussian and every residual deserves belief.
    Beware: one outlier at 100 σ pulls as hard as 100 residuals at 1 σ.
    Reference: Gauss, Theoria motus corporum coelestium, 1809.
    """
    return F.mse_loss(prediction, target, reduction="none").mean(-1)


@card(kinds=("regression",))
def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Absolute error: its minimiser is the median.

    |r|,  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the unit of the target.
    Use it when: tails are heavy, or the median is what you want to predict.
    Beware: the gradient keeps its size near the optimum, so let the learning rate decay; 36 % less efficient than
        the mean when noise is Gaussian.
    Reference: Laplace, Mémoire sur la probabilité des causes par les évènemens, 1774.
    """
    return F.l1_loss(prediction, target, reduction="none").mean(-1)


@card(kinds=("regression",), search={"delta": (0.1, 10.0)})
def huber(prediction: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
    """Squared error near zero, absolute error beyond δ.

    ½r² where |r| ≤ δ,  δ(|r| − ½δ) beyond;  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the squared unit of the target.
    Use it when: most noise is Gaussian and some of it is not.
    Beware: δ is in units of the (standardised) target; half of mse within δ, so also half its step.
    Reference: Huber, Robust estimation of a location parameter, 1964, https://doi.org/10.1214/aoms/1177703732
    """
    demand("loss.delta", delta, lambda v: v > 0, "above 0")
    return F.huber_loss(prediction, target, reduction="none", delta=delta).mean(-1)
