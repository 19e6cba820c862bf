"""Losses of two players: a critic D that scores pictures, and a generator that makes them.

One argument order everywhere: `critic(D, real, fake)` and `generator(D, real, fake)`, with D the critic's net. Losses
are per example, [..., batch]; the critic's scores of real and fake pictures are recorded beside them. `r1` adds
γ/2·‖∇D(real)‖² to any critic's loss. D ends in a score, not a probability, and has no batch normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossbench.core import LossOutput, Noise, card, require

Critic = Callable[[Tensor], Tensor]


@card(task_types=("gan",), replica_batched=True, search={"r1": (0.0, 10.0)})
@dataclass(frozen=True)
class Minimax:
    """The original game: the critic classifies real and fake by logistic loss, and the generator maximises that loss.

    critic: −log σ(D(x)) − log(1 − σ(D(x̃)));  generator: log(1 − σ(D(x̃)))

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], in nats.
    Use it when: you want to see why it is not used; with an optimal critic it is 2·JS − log 4.
    Beware: a confident critic leaves the generator no gradient.
    Reference: Goodfellow et al., Generative adversarial networks, 2014, https://arxiv.org/abs/1406.2661
    """

    r1: float = 0.0

    def critic(self, critic: Critic, real: Tensor, fake: Tensor) -> LossOutput:
        """The critic's loss per example [..., batch], in nats, with its scores beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        return _with_scores(F.softplus(-is_real) + F.softplus(is_fake), real, is_real, is_fake, self.r1)

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], in nats."""
        return -F.softplus(critic(fake))


@card(task_types=("gan",), replica_batched=True, search={"r1": (0.0, 10.0)})
@dataclass(frozen=True)
class NonSaturating:
    """The original game's critic, and a generator that maximises the probability that its pictures are real.

    critic: −log σ(D(x)) − log(1 − σ(D(x̃)));  generator: −log σ(D(x̃))

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], in nats.
    Use it when: you start; no other loss was found to be significantly better once tuned.
    Beware: near the optimum it keeps circling; r1 makes it settle.
    Reference: Goodfellow et al., Generative adversarial networks, 2014, https://arxiv.org/abs/1406.2661;
        Lucic et al., Are GANs created equal?, 2018, https://arxiv.org/abs/1711.10337
    """

    r1: float = 0.0

    def critic(self, critic: Critic, real: Tensor, fake: Tensor) -> LossOutput:
        """The critic's loss per example [..., batch], in nats, with its scores beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        return _with_scores(F.softplus(-is_real) + F.softplus(is_fake), real, is_real, is_fake, self.r1)

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], in nats."""
        return F.softplus(-critic(fake))


@card(task_types=("gan",), replica_batched=True, search={"r1": (0.0, 10.0)})
@dataclass(frozen=True)
class LeastSquares:
    """Squared error of the scores, with target 1 for real pictures and 0 for fake ones.

    critic: ½(D(x) − 1)² + ½D(x̃)²;  generator: ½(D(x̃) − 1)²

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], without unit.
    Use it when: the logistic critic saturates; here pictures far on the right side still have a gradient.
    Beware: the loss is quadratic in the scores, so its gradients have no bound.
    Reference: Mao et al., Least squares generative adversarial networks, 2017, https://arxiv.org/abs/1611.04076
    """

    r1: float = 0.0

    def critic(self, critic: Critic, real: Tensor, fake: Tensor) -> LossOutput:
        """The critic's loss per example [..., batch], without unit, with its scores beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        return _with_scores(0.5 * ((is_real - 1).square() + is_fake.square()), real, is_real, is_fake, self.r1)

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], without unit."""
        return 0.5 * (critic(fake) - 1).square()


@card(task_types=("gan",), replica_batched=True, search={"r1": (0.0, 10.0)})
@dataclass(frozen=True)
class Hinge:
    """The critic stops learning where real and fake are a margin apart; the generator raises its scores.

    critic: max(0, 1 − D(x)) + max(0, 1 + D(x̃));  generator: −D(x̃)

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], without unit.
    Use it when: the critic is normalised, as in the large image models that made it popular.
    Beware: the generator's loss has no lower bound, so its value says nothing about its pictures.
    Reference: Lim & Ye, Geometric GAN, 2017, https://arxiv.org/abs/1705.02894
    """

    r1: float = 0.0

    def critic(self, critic: Critic, real: Tensor, fake: Tensor) -> LossOutput:
        """The critic's loss per example [..., batch], without unit, with its scores beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        return _with_scores((1 - is_real).clamp(min=0) + (1 + is_fake).clamp(min=0), real, is_real, is_fake, self.r1)

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], without unit."""
        return -critic(fake)


@card(task_types=("gan",), replica_batched=True, search={"clip": (0.003, 0.1), "r1": (0.0, 10.0)})
@dataclass(frozen=True)
class Wasserstein:
    """An estimate of the earth mover's distance, by a critic whose weights are clipped to keep it Lipschitz.

    critic: D(x̃) − D(x), every weight in [−c, c] after each of its steps;  generator: −D(x̃)

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], in the unit of the score.
    Use it when: you want the critic's loss to estimate the distance; wgan_gp has mostly replaced it.
    Beware: clipping makes the critic simple and its gradients small. c has to fit the depth; momentum makes it worse.
    Reference: Arjovsky et al., Wasserstein GAN, 2017, https://arxiv.org/abs/1701.07875
    """

    clip: float = 0.01
    r1: float = 0.0

    def __post_init__(self) -> None:
        require("loss.clip", self.clip, lambda v: v > 0, "above 0")

    def critic(self, critic: Critic, real: Tensor, fake: Tensor) -> LossOutput:
        """The critic's loss per example [..., batch], in the unit of the score, with its scores beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        return _with_scores(is_fake - is_real, real, is_real, is_fake, self.r1)

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], in the unit of the score."""
        return -critic(fake)

    @torch.no_grad()
    def project(self, critic: nn.Module) -> None:
        """Bring the critic's weights back into [−c, c]."""
        for weight in critic.parameters():
            weight.clamp_(-self.clip, self.clip)


@card(task_types=("gan",), replica_batched=True, search={"penalty": (0.1, 100.0), "r1": (0.0, 10.0)})
@dataclass(frozen=True)
class WassersteinPenalty:
    """The earth mover's distance by a critic whose slope is pulled to 1 between real and fake pictures.

    critic: D(x̃) − D(x) + λ(‖∇D(x̂)‖ − 1)²,  x̂ = εx + (1 − ε)x̃, ε ~ U(0, 1);  generator: −D(x̃)

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], in the unit of the score.
    Use it when: training is unstable otherwise and time allows: the penalty doubles the time of a critic's step.
    Beware: meant for several critic steps per generator step (`task.critic_steps=5`); circles around its optimum.
    Reference: Gulrajani et al., Improved training of Wasserstein GANs, 2017, https://arxiv.org/abs/1704.00028
    """

    penalty: float = 10.0
    r1: float = 0.0

    def __post_init__(self) -> None:
        require("loss.penalty", self.penalty, lambda v: v >= 0, "0 or above")

    def critic(self, critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> LossOutput:
        """The critic's loss per example [..., batch], in the unit of the score, with its scores and slope beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        axes = real.dim() - is_real.dim()  # of one picture
        share = noise.uniform(is_real.shape[-1], *(1,) * axes).to(real.dtype)
        between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
        slope = _squares(critic(between), between).add(1e-12).sqrt()  # the slope of a root has no bound at 0
        output = _with_scores(is_fake - is_real + self.penalty * (slope - 1).square(), real, is_real, is_fake, self.r1)
        return LossOutput(output.per_example, {**output.parts, "slope": slope})

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], in the unit of the score."""
        return -critic(fake)


@card(
    task_types=("gan",),
    batch=True,
    search={"penalty": (0.1, 100.0), "reach": (0.1, 2.0), "r1": (0.0, 10.0)},
    limits={"non_saturating": {"penalty": 0.0}},
)
@dataclass(frozen=True)
class Dragan:
    """Non-saturating, with a critic whose slope is pulled to 1 around real pictures only.

    critic: −log σ(D(x)) − log(1 − σ(D(x̃))) + λ(‖∇D(x̂)‖ − 1)²,  x̂ = x + reach·s·u, u ~ U(−1, 1);
    generator: −log σ(D(x̃))

    s is the standard deviation of all values in the batch of real pictures; each value has its own u.

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], in nats.
    Use it when: the critic grows steep around real pictures and the generator collapses onto a few of them.
    Beware: the noise is uniform on both sides, as in Lucic et al. 2018, and unclipped; the paper has normal noise, its
        authors' code noise to one side only. Points in clusters need a small reach: half a standard deviation of all
        points is farther than any cluster is wide.
    Reference: Kodali et al., On convergence and stability of GANs, 2017, https://arxiv.org/abs/1705.07215
    """

    penalty: float = 10.0
    reach: float = 0.5
    r1: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("penalty", self.penalty), ("reach", self.reach)):
            require(f"loss.{name}", value, lambda v: v >= 0, "0 or above")

    def critic(self, critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> LossOutput:
        """The critic's loss per example [..., batch], in nats, with its scores and slope beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        lead = is_real.dim() - 1  # axes before the batch
        spread = real.detach().flatten(lead).std(-1, correction=0).view(*real.shape[:lead], *(1,) * (real.dim() - lead))
        shift = 2 * noise.uniform(*real.shape[lead:]).to(real.dtype) - 1
        around = (real + self.reach * spread * shift).detach().requires_grad_(True)
        slope = _squares(critic(around), around).add(1e-12).sqrt()  # the slope of a root has no bound at 0
        logistic = F.softplus(-is_real) + F.softplus(is_fake)
        output = _with_scores(logistic + self.penalty * (slope - 1).square(), real, is_real, is_fake, self.r1)
        return LossOutput(output.per_example, {**output.parts, "slope": slope})

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], in nats."""
        return F.softplus(-critic(fake))


@card(task_types=("gan",), batch=True, search={"r1": (0.0, 10.0)})
@dataclass(frozen=True)
class RelativisticAverage:
    """The critic scores how much more real a picture is than the average of the other kind; the generator reverses it.

    critic: −log σ(D(x) − m̃) − log σ(m − D(x̃));  generator: −log σ(D(x̃) − m) − log σ(m̃ − D(x))

    m and m̃ are the means of the batch's scores of real and of fake pictures.

    Shapes: real x and fake x̃ [..., batch, …]; result [..., batch], in nats.
    Use it when: the critic recognises fakes early; here real pictures contribute to the generator's gradient too.
    Beware: a score means nothing by itself, only relative to the others of its batch; small batches make it noisy.
    Reference: Jolicoeur-Martineau, The relativistic discriminator: a key element missing from standard GAN, 2019,
        https://arxiv.org/abs/1807.00734
    """

    r1: float = 0.0

    def critic(self, critic: Critic, real: Tensor, fake: Tensor) -> LossOutput:
        """The critic's loss per example [..., batch], in nats, with its scores beside it."""
        real, is_real, is_fake = _scores(critic, real, fake, self.r1)
        return _with_scores(_more_real(is_real, is_fake), real, is_real, is_fake, self.r1)

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss per example [..., batch], in nats."""
        return _more_real(critic(fake), critic(real))


def _more_real(one: Tensor, other: Tensor) -> Tensor:
    """−log σ(one − mean of other) − log σ(mean of one − other), of scores [..., batch]."""
    ahead, behind = one - other.mean(-1, keepdim=True), one.mean(-1, keepdim=True) - other
    return F.softplus(-ahead) + F.softplus(-behind)


def _scores(critic: Critic, real: Tensor, fake: Tensor, r1: float) -> tuple[Tensor, Tensor, Tensor]:
    """The real pictures, with a gradient where r1 needs one, and the scores of real and fake pictures."""
    require("loss.r1", r1, lambda v: v >= 0, "0 or above")
    if r1:
        real = real.detach().requires_grad_(True)
    return real, critic(real), critic(fake)


def _with_scores(per_example: Tensor, real: Tensor, is_real: Tensor, is_fake: Tensor, r1: float) -> LossOutput:
    """A critic's losses per example, plus γ/2·‖∇D(real)‖² where γ is not 0, with its scores beside them."""
    if not r1:
        return LossOutput(per_example, {"real": is_real, "fake": is_fake})
    squares = _squares(is_real, real)
    return LossOutput(per_example + 0.5 * r1 * squares, {"real": is_real, "fake": is_fake, "r1": squares})


def _squares(scores: Tensor, pictures: Tensor) -> Tensor:
    """‖∇D‖² at each picture, [..., batch]; it can be differentiated itself."""
    (slopes,) = torch.autograd.grad(scores.sum(), pictures, create_graph=True)
    return slopes.flatten(scores.dim()).square().sum(-1)
