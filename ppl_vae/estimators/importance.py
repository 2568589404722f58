"""Importance-weighted bounds: functions of the particles' weights per datum."""

from __future__ import annotations

import math

from torch import Tensor

from ppl_vae.core.particles import Particles, log_mean_exp
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts


class IWAE(Estimator):
    r"""The importance-weighted bound.

    .. math:: \mathcal{L}_i = \log \frac{1}{K} \sum_k w_{ki}

    A lower bound that rises with K towards log p(x_i); K = 1 is the ELBO. Unbiased gradients of the
    bound; those of the guide lose their signal as K grows (arXiv:1802.04537).

    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, arXiv:1509.00519.
    """

    facts = Facts("lower", paper="1509.00519")

    def bound(self, particles: Particles) -> Tensor:
        return log_mean_exp(particles.log_weight)


class Renyi(Estimator):
    r"""The variational Renyi bound.

    .. math:: \mathcal{L}_i = \frac{1}{1 - \alpha} \log \frac{1}{K} \sum_k w_{ki}^{1 - \alpha}

    alpha = 0 is the IWAE's bound and alpha -> 1 the ELBO; alpha = -inf is VR-max, the largest
    log-weight, and alpha = inf the smallest. A lower bound in expectation for alpha >= 0; an upper
    bound as K -> infinity for alpha < 0, with the Monte Carlo estimate below that. Unbiased gradients of the
    estimate's expectation. With the same random numbers, an enclosing plate and no subsampling it equals
    `pyro.infer.RenyiELBO`.

    Args:
        alpha: the order, any number, -inf and inf too.
        num_particles: K.

    Li and Turner, Renyi Divergence Variational Inference, arXiv:1602.02311.
    """

    def __init__(self, alpha: float = 0.0, num_particles: int = 2) -> None:
        super().__init__(num_particles)
        if math.isnan(alpha):
            raise ValueError(f"alpha must be a finite number, -inf or inf, got {alpha!r}")
        self.alpha = float(alpha)
        self.facts = Facts(
            "lower" if alpha >= 0 else "neither",
            paper="1602.02311",
        )

    def bound(self, particles: Particles) -> Tensor:
        log_weight, order = particles.log_weight, 1.0 - self.alpha
        if math.isinf(order):
            # one particle gets the gradient, ties included
            return log_weight.max(0).values if order > 0 else log_weight.min(0).values
        mean = log_weight.mean(0)
        if order == 0.0:
            return mean
        if abs(order) < 1e-3:
            # logsumexp would lose eps / order near the ELBO; this form is exact to rounding there
            return mean + (order * (log_weight - mean)).expm1().mean(0).log1p() / order
        return log_mean_exp(order * log_weight) / order

    def __repr__(self) -> str:
        return f"Renyi(alpha={self.alpha}, num_particles={self.num_particles})"
