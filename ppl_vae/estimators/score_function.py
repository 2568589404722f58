"""Score-function gradients with control variates, for guides with discrete sites and for mixed ones."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.core.downstream import Score, in_rows
from ppl_vae.core.particles import Particles, log_mean_exp
from ppl_vae.core.sites import Program
from ppl_vae.estimators.apart import apart
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.elbo import ELBO
from ppl_vae.estimators.facts import Facts
from ppl_vae.estimators.moving_average import MovingAverage


class _WithBaseline(ELBO):
    """An ELBO whose state has a number for each slice of the sites that are scored."""

    def prepare(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            particles = self.draw(model, guide, *args, **kwargs)
            self._averages(self._rows(self.scores(particles), particles)[1].shape[1])

    @abstractmethod
    def _averages(self, count: int) -> None:
        """Make room for the averages of `count` slices."""

    def _rows(self, found: Mapping[str, Score], particles: Particles) -> tuple[Tensor | None, Tensor]:
        """(K, S, B) scores and rewards; no scores, and the whole reward, where every site has a path."""
        if found:
            return in_rows(found)
        return None, self.reward(particles).detach().unsqueeze(1)


class ScoreFunction(_WithBaseline):
    r"""The evidence lower bound with a moving average as the baseline of its score function.

    .. math:: \nabla_\phi := \frac{1}{K} \sum_k \sum_s
        (R_{ksi} - c_s) \, \nabla_\phi \log q(z_{ksi} \mid x_i),
        \qquad c_s \leftarrow \gamma c_s + (1 - \gamma) \overline{R_s}

    with the sum over the sites without a pathwise gradient and their slices of inner plates, and R the terms
    of the log-weight downstream of each (`core.downstream.scores`): for one site log w. A lower bound.
    Unbiased gradients, since c comes from earlier steps. Reparameterised sites of a mixed guide keep their
    pathwise gradient. `auxiliary` holds c.

    Args:
        num_particles: K.
        decay: gamma.

    Raises:
        ValueError: when decay is outside [0, 1).

    Mnih and Gregor, Neural Variational Inference and Learning, arXiv:1402.0030, section 2.3.
    """

    facts = Facts("lower", paper="1402.0030")

    def __init__(self, num_particles: int = 1, decay: float = 0.9) -> None:
        super().__init__(num_particles)
        self.decay = decay
        self.average = self.auxiliary.average = MovingAverage(decay)

    def _averages(self, count: int) -> None:
        self.average.of_length(count)

    def surrogate(self, particles: Particles) -> Tensor:
        _follow_device(self.auxiliary, particles)
        found = self.scores(particles)
        reward = self._rows(found, particles)[1]
        self._averages(reward.shape[1])
        surrogate = self.surrogate_with(particles, self.average().unsqueeze(-1), found)
        self.average.add(reward.mean((0, 2)).squeeze(0))
        return surrogate


class NVIL(_WithBaseline):
    r"""The evidence lower bound with a learned baseline C(x) for its score function.

    .. math:: \nabla_\phi := \frac{1}{K} \sum_k \sum_s
        \frac{R_{ksi} - C_s(x_i) - c_s}{\max(1, \sigma_s)} \, \nabla_\phi \log q(z_{ksi} \mid x_i)

    with s and R as in `ScoreFunction`: for one site R is log w. A lower bound. C is trained along, to the
    least squares of what it leaves; c is a moving average, as is sigma, the standard deviation, with
    `normalise` (else it is 1). Unbiased gradients without `normalise`, which rescales the guide's.
    Reparameterised sites keep their pathwise gradient.

    Args:
        baseline: C, a network from the batch's first tensor, (B, *event), to (B,) or (B, 1), the same for
            every slice, or to (B, S), one for each of the S slices of all sites, in the guide's order. What
            it shares with the pair, such as an encoder's layers, it leaves to the pair to learn.
        num_particles: K.
        decay: of the moving averages.
        normalise: divide by the standard deviation where it is above 1.

    Raises:
        ValueError: when decay is outside [0, 1), or the baseline's output is not one number a datum.

    Mnih and Gregor, Neural Variational Inference and Learning, arXiv:1402.0030.
    """

    def __init__(
        self, baseline: nn.Module, num_particles: int = 1, decay: float = 0.8, normalise: bool = False
    ) -> None:
        super().__init__(num_particles)
        self.baseline = baseline
        self.decay = decay
        self.normalise = normalise
        self.auxiliary.baseline = baseline
        self.average = self.auxiliary.average = MovingAverage(decay)
        self.square = self.auxiliary.square = MovingAverage(decay)
        follows = "the bound, rescaled" if normalise else "the bound"
        self.facts = Facts("lower", unbiased_guide=not normalise, guide_follows=follows, paper="1402.0030")

    def _averages(self, count: int) -> None:
        self.average.of_length(count)
        self.square.of_length(count)

    def surrogate(self, particles: Particles) -> Tensor:
        _follow_device(self.auxiliary, particles)
        found = self.scores(particles)
        log_draw, reward = self._rows(found, particles)
        self._averages(reward.shape[1])
        predicted = self._predict(particles, reward.shape[1])
        centre = self.average().unsqueeze(-1)
        left = reward - predicted - centre
        surrogate = self.surrogate_with(particles, predicted.detach() + centre, found)
        variance = torch.ones_like(centre)
        if self.normalise:
            variance = self.square().unsqueeze(-1).clamp_min(1.0)
            if log_draw is not None:
                # the reward's own share is already in the surrogate: only what the scale takes off is added
                excess = log_draw * left.detach() * (variance.rsqrt() - 1)
                surrogate = surrogate + excess.sum(1).mean(0)
        self.average.add((left + centre).detach().mean((0, 2)).squeeze(0))
        self.square.add(left.detach().square().mean((0, 2)).squeeze(0))
        return surrogate - 0.5 * (left.square() / variance).sum(1).mean(0)

    def _predict(self, particles: Particles, slices: int) -> Tensor:
        """(1, B), or (S, B)."""
        predicted = apart(self.baseline, particles)(particles.args[0])
        if particles.subsample is not None and len(predicted) != particles.batch_size:
            predicted = predicted[particles.subsample]  # the plate took these of the rows
        if predicted.numel() not in (particles.batch_size, particles.batch_size * slices):
            each = "" if slices == 1 else f", or {slices}, one for each slice"
            raise ValueError(
                f"NVIL's baseline must give one number for each of the {particles.batch_size} data{each}, "
                f"but its output has shape {list(predicted.shape)}: end it with nn.Linear(..., 1)"
            )
        return predicted.reshape(particles.batch_size, -1).T.to(particles.log_weight.dtype)


class VIMCO(Estimator):
    r"""The importance-weighted bound, each particle's score rewarded with what it adds to the others.

    .. math:: \mathcal{L}_i = \log \frac{1}{K} \sum_k w_{ki}, \qquad
        \nabla := \sum_k \tilde w_{ki} \nabla \log w_{ki}
        + \sum_k (\mathcal{L}_i - \mathcal{L}_i^{-k}) \nabla_\phi \log q(z_{ki} \mid x_i)

    with the k-th weight replaced, in L^{-k}, by the others' geometric mean. A lower bound, and
    unbiased gradients. Reparameterised sites of a mixed guide keep their pathwise gradient.

    Args:
        num_particles: K, two or more.

    Raises:
        ValueError: when K is 1, which leaves no others.

    Mnih and Rezende, Variational Inference for Monte Carlo Objectives, arXiv:1602.06725.
    """

    facts = Facts("lower", paper="1602.06725")

    def __init__(self, num_particles: int = 5) -> None:
        super().__init__(num_particles)
        if num_particles == 1:
            raise ValueError("VIMCO needs num_particles >= 2: estimators.ScoreFunction() treats one particle")

    def bound(self, particles: Particles) -> Tensor:
        return log_mean_exp(particles.log_weight)

    def surrogate(self, particles: Particles) -> Tensor:
        bound = self.bound(particles)
        if particles.score is None:
            return bound
        return bound + (particles.score * (bound.detach() - without_each(particles.log_weight))).sum(0)


def without_each(log_weight: Tensor) -> Tensor:
    """(K, B): log mean exp of (K, B) numbers, with one of them replaced by the mean of the others."""
    log_weight = log_weight.detach()
    num_particles = len(log_weight)
    others = (log_weight.sum(0) - log_weight) / (num_particles - 1)
    own = torch.eye(num_particles, dtype=torch.bool, device=log_weight.device).unsqueeze(-1)
    return torch.where(own, others.unsqueeze(1), log_weight).logsumexp(1) - math.log(num_particles)


def _follow_device(auxiliary: nn.Module, particles: Particles) -> None:
    """Move an estimator's state to the particles: a stock SVI does not."""
    device = particles.log_weight.device
    if any(buffer.device != device for buffer in auxiliary.buffers()):
        auxiliary.to(device)
