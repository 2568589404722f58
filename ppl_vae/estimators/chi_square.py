"""The chi-square upper bound on the log-evidence."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ppl_vae.core.particles import Particles, log_mean_exp
from ppl_vae.core.separate import SeparateParticles
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts
from ppl_vae.estimators.score_function import without_each


class CUBO(Estimator):
    r"""The chi upper bound, which the guide descends while the model ascends the importance-weighted bound.

    .. math:: \mathcal{U}_i = \frac{1}{n} \log \mathbb{E}_q[w^n]
        \approx \frac{1}{n} \log \frac{1}{K} \sum_k w_{ki}^n
        \ge \log p(x_i), \qquad n \ge 1

    An upper bound as K -> infinity; the estimate lies below it at finite K, and equals
    `Renyi(1 - n)`'s. `loss` is minus the bound, as everywhere, though the guide makes the bound
    smaller: watch the gap to a lower bound. The gradients of the guide are minus the estimate's,
    unbiased for that; the model's are the IWAE's. Reparameterised sites get pathwise gradients, others
    the score function's with VIMCO's baseline.

    Args:
        order: n.
        num_particles: K, two or more.

    Raises:
        ValueError: when the order is below 1, or K is 1.

    Dieng, Tran, Ranganath, Paisley and Blei, Variational Inference via chi Upper Bound Minimization,
    arXiv:1611.00328.
    """

    separates: ClassVar[bool] = True
    facts = Facts(
        "neither",
        unbiased_model=False,
        unbiased_guide=False,
        guide_follows="minus the bound",
        paper="1611.00328",
    )

    def __init__(self, order: float = 2.0, num_particles: int = 10) -> None:
        super().__init__(num_particles)
        if not 1 <= order < float("inf"):
            raise ValueError(f"order must be a finite number >= 1, got {order!r}")
        if num_particles == 1:
            raise ValueError("CUBO needs num_particles >= 2: with one particle every order is the ELBO")
        self.order = float(order)

    def bound(self, particles: Particles) -> Tensor:
        return log_mean_exp(self.order * particles.log_weight) / self.order

    def surrogate(self, particles: SeparateParticles) -> Tensor:  # type: ignore[override]
        log_weight = particles.log_weight.detach()
        weight = (self.order * log_weight).softmax(0)
        objective, direct = weight * particles.log_weight, -weight * particles.score_term
        if particles.score is not None:
            # as VIMCO's: what a particle adds to the others, without which the noise drowns the signal
            reward = self.bound(particles).detach() - without_each(self.order * log_weight) / self.order
            objective, direct = objective + particles.score * reward, direct + particles.score * reward
        model = log_weight.softmax(0) * particles.model_term
        return (model - particles.path(objective) - direct).sum(0)

    def __repr__(self) -> str:
        return f"CUBO(order={self.order}, num_particles={self.num_particles})"
