"""Debiased estimates of the log-evidence: the jackknife, and a randomly truncated series."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ppl_vae.core.drawing import draw as draw_particles
from ppl_vae.core.particles import Particles
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts


class JVI(Estimator):
    r"""The importance-weighted bound with its leading bias removed by the jackknife.

    .. math:: \mathcal{L}_i = \sum_{j=0}^{m} c_j \, \overline{\mathrm{IWAE}}_{K-j}, \qquad
        c_j = (-1)^j \frac{(K - j)^m}{(m - j)! \, j!}

    where the mean runs over all ways to leave j particles out. The bias falls from O(1/K) to
    O(1/K^{m+1}); what is left may have either sign, so it is no bound. Unbiased gradients of its
    expectation. The number of subsets grows as K^m: keep m at 1 or 2.

    Args:
        order: m, 0 (the IWAE) or more, below K.
        num_particles: K.

    Raises:
        ValueError: when m is not in 0 ... K - 1.

    Nowozin, Debiasing Evidence Approximations: On Importance-weighted Autoencoders and Jackknife
    Variational Inference, ICLR 2018.
    """

    def __init__(self, order: int = 1, num_particles: int = 10) -> None:
        super().__init__(num_particles)
        if not isinstance(order, int) or not 0 <= order < num_particles:
            raise ValueError(
                f"order must be a whole number from 0 to K - 1 = {num_particles - 1}, got {order!r}"
            )
        self.order = order
        self.facts = Facts("neither" if order else "lower")

    def bound(self, particles: Particles) -> Tensor:
        log_weight, order = particles.log_weight, self.order
        num_particles = len(log_weight)
        total = torch.zeros_like(log_weight[0])
        for out in range(order + 1):
            size = num_particles - out
            factor = (-1) ** out * size**order / (math.factorial(order - out) * math.factorial(out))
            left_out = torch.zeros(math.comb(num_particles, out), num_particles, 1, dtype=torch.bool)
            for subset, indices in enumerate(itertools.combinations(range(num_particles), out)):
                left_out[subset, list(indices)] = True
            kept = log_weight.masked_fill(left_out.to(log_weight.device), -math.inf)
            total = total + factor * (kept.logsumexp(1).mean(0) - math.log(size))
        return total

    def __repr__(self) -> str:
        return f"JVI(order={self.order}, num_particles={self.num_particles})"


class SUMO(Estimator):
    r"""Stochastically unbiased marginalisation: the series of importance-weighted bounds, randomly cut off.

    .. math:: \mathcal{L}_i = \mathrm{IWAE}_m + \sum_{t=1}^{T}
        \frac{\mathrm{IWAE}_{m+t} - \mathrm{IWAE}_{m+t-1}}{P(T \ge t)}, \qquad
        P(T \ge t) = \begin{cases} 1/t & t < 80 \\ \tfrac{1}{80} \, 0.9^{t - 80} & t \ge 80 \end{cases}

    Its expectation is log p(x), up to the cut at `max_particles`: exactly the importance-weighted
    bound of that many, and so a lower bound. Unbiased gradients of it. T is drawn anew at each call,
    the same for all data, so the number of particles, m + T, changes and with it the cost; the
    variance is large.

    Args:
        min_particles: m, the particles of the first term.
        max_particles: the most particles, above m.

    Raises:
        ValueError: when they are out of order.

    Luo et al., SUMO: Unbiased Estimation of Log Marginal Probability, arXiv:2004.00353.
    """

    fixed_size: ClassVar[bool] = False
    facts = Facts("lower", paper="2004.00353")

    def __init__(self, min_particles: int = 5, max_particles: int = 500) -> None:
        super().__init__(min_particles)
        if not isinstance(max_particles, int) or max_particles <= min_particles:
            raise ValueError(
                f"max_particles must be above min_particles = {min_particles}, got {max_particles!r}"
            )
        self.min_particles = min_particles
        self.max_particles = max_particles

    def draw(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Particles:
        terms = int((self.survival() >= torch.rand((), dtype=torch.float64)).sum())
        return draw_particles(model, guide, args, kwargs, num_particles=self.min_particles + terms)

    def survival(self) -> Tensor:
        """(max - min,) float64: P(T >= t) for t = 1, 2, ..."""
        t = torch.arange(1, self.max_particles - self.min_particles + 1, dtype=torch.float64)
        return torch.where(t < 80, 1 / t, 0.9 ** (t - 80) / 80)

    def bound(self, particles: Particles) -> Tensor:
        log_weight = particles.log_weight
        count = torch.arange(1, len(log_weight) + 1, device=log_weight.device).to(log_weight)
        ladder = (log_weight.logcumsumexp(0) - count.log().unsqueeze(1))[self.min_particles - 1 :]
        survival = self.survival()[: len(ladder) - 1].to(log_weight).unsqueeze(1)
        return ladder[0] + (ladder.diff(dim=0) / survival).sum(0)

    def __repr__(self) -> str:
        return f"SUMO(min_particles={self.min_particles}, max_particles={self.max_particles})"
