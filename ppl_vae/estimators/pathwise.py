"""Pathwise gradients: the guide moves the bound through its draws alone, not through the density."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ppl_vae.core.particles import Particles, log_mean_exp
from ppl_vae.core.separate import SeparateParticles
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts


class STL(Estimator):
    r"""Sticking the landing: the importance-weighted bound, the guide's score left out of its gradient.

    .. math:: \mathcal{L}_i = \log \frac{1}{K} \sum_k w_{ki}, \qquad
        \nabla_\phi := \sum_k \tilde w_{ki} \frac{\partial \log w_{ki}}{\partial z_{ki}} \nabla_\phi z_{ki},
        \qquad
        \tilde w_{ki} = \frac{w_{ki}}{\sum_j w_{ji}}

    A lower bound. What is left out has expectation zero for K = 1, which is the ELBO: there the
    guide's gradient is unbiased, and for K > 1 it is biased. It is exactly zero at q = p(z | x). The
    model's gradient is the IWAE's, unbiased. Every site of the guide must be reparameterised. With
    K = 1 it takes a KL weight.

    Roeder, Wu and Duvenaud, Sticking the Landing, arXiv:1703.09194.
    """

    separates: ClassVar[bool] = True

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(num_particles)
        self.facts = Facts(
            "lower",
            unbiased_guide=num_particles == 1,
            guide_follows="the bound" if num_particles == 1 else "the bound, less its score terms",
            needs="reparameterised",
            zero_variance=True,
            paper="1703.09194",
        )
        self.takes_kl_weight = num_particles == 1  # type: ignore[misc]

    def bound(self, particles: Particles) -> Tensor:
        return log_mean_exp(particles.log_weight)

    def surrogate(self, particles: SeparateParticles) -> Tensor:  # type: ignore[override]
        weight = particles.log_weight.detach().softmax(0)
        return (weight * (particles.model_term + particles.path_term)).sum(0)


class DReG(Estimator):
    r"""The importance-weighted bound with the doubly reparameterised gradient for the guide.

    .. math:: \mathcal{L}_i = \log \frac{1}{K} \sum_k w_{ki}, \qquad
        \nabla_\phi := \sum_k \bigl(\alpha \tilde w_{ki} + (1 - 2 \alpha) \tilde w_{ki}^2\bigr)
        \frac{\partial \log w_{ki}}{\partial z_{ki}} \nabla_\phi z_{ki}

    A lower bound. alpha = 0 is unbiased for the bound's gradient; alpha = 1 is the doubly
    reparameterised wake-phi gradient, which lowers KL(p || q); alpha = 1/2 is half of `STL`. In
    between it is (1 - alpha) times the first plus alpha times the second. It is exactly zero at q =
    p(z | x), and its signal-to-noise ratio grows as the root of K. The model's gradient is the
    IWAE's, unbiased. With a scale s on log q, :math:`\tilde w_{ki}^2` becomes
    :math:`(1 - s) \tilde w_{ki} + s \tilde w_{ki}^2`. Every site of the guide must be reparameterised.

    Args:
        num_particles: K.
        alpha: the share of the wake-phi gradient.

    Raises:
        ValueError: when alpha is not finite.

    Tucker, Lawson, Gu and Maddison, Doubly Reparameterized Gradient Estimators, arXiv:1810.04152;
    Finke and Thiery, On Importance-Weighted Autoencoders, arXiv:1907.10477.
    """

    separates: ClassVar[bool] = True

    def __init__(self, num_particles: int = 2, *, alpha: float = 0.0) -> None:
        super().__init__(num_particles)
        if not math.isfinite(alpha):
            raise ValueError(f"alpha must be a finite number, got {alpha!r}")
        self.alpha = float(alpha)
        self.facts = Facts(
            "lower",
            unbiased_guide=alpha == 0,
            guide_follows="the bound" if alpha == 0 else f"{1 - alpha:g} IWAE + {alpha:g} wake-phi",
            needs="reparameterised",
            zero_variance=True,
            paper="1810.04152",
        )

    def bound(self, particles: Particles) -> Tensor:
        return log_mean_exp(particles.log_weight)

    def surrogate(self, particles: SeparateParticles) -> Tensor:  # type: ignore[override]
        weight = particles.log_weight.detach().softmax(0)
        # what a draw does through log w, less what the reparameterised score takes off: that has the
        # density's own scale and mask, so both are one only where there are none
        scored = (weight - weight.square()) * (1 - 2 * self.alpha)
        if not particles.has_factors:
            guide = ((1 - self.alpha) * weight - scored) * particles.path_term
        else:
            guide = (1 - self.alpha) * weight * particles.path_term - scored * particles.factored_path_term
        return (weight * particles.model_term + guide).sum(0)

    def __repr__(self) -> str:
        return f"DReG(num_particles={self.num_particles}, alpha={self.alpha})"
