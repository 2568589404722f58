"""Grouped bounds: M groups of K particles, between the ELBO of M K draws and their IWAE bound."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ppl_vae.core.checks import check_count
from ppl_vae.core.particles import Particles, log_mean_exp
from ppl_vae.core.separate import SeparateParticles
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts


class MIWAE(Estimator):
    r"""The mean of M importance-weighted bounds of K particles each.

    .. math:: \mathcal{L}_i = \frac{1}{M} \sum_m \log \frac{1}{K} \sum_k w_{mki}

    A lower bound with the expectation of IWAE(K). Unbiased gradients, whose variance falls with M.

    Args:
        num_groups: M.
        group_size: K.

    Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, arXiv:1802.04537.
    """

    facts = Facts("lower", paper="1802.04537")

    def __init__(self, num_groups: int = 8, group_size: int = 8) -> None:
        super().__init__(_product(num_groups, group_size))
        self.num_groups = num_groups
        self.group_size = group_size

    def bound(self, particles: Particles) -> Tensor:
        return self._groups(particles).mean(0)

    def surrogate(self, particles: Particles) -> Tensor:
        groups = self._groups(particles)
        if particles.score is not None:
            # a draw moves its own group's bound only
            score = particles.score.unflatten(0, (self.num_groups, self.group_size)).sum(1)
            groups = groups + score * groups.detach()
        return groups.mean(0)

    def _groups(self, particles: Particles) -> Tensor:
        return log_mean_exp(particles.log_weight.unflatten(0, (self.num_groups, self.group_size)), 1)

    def __repr__(self) -> str:
        return f"MIWAE(num_groups={self.num_groups}, group_size={self.group_size})"


class PIWAE(Estimator):
    r"""Partially importance weighted: the model follows IWAE(M K), the guide follows MIWAE(M, K).

    .. math:: \mathcal{L}_i = \log \frac{1}{M K} \sum_{mk} w_{mki}, \qquad
        \nabla_\phi := \nabla_\phi \frac{1}{M} \sum_m \log \frac{1}{K} \sum_k w_{mki}

    A lower bound. The model's gradient is unbiased for it; the guide's is unbiased for MIWAE's bound.
    What a module that both programs share does in the model (a VampPrior's encoder) follows the model's.

    Args:
        num_groups: M.
        group_size: K.

    Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, arXiv:1802.04537.
    """

    separates: ClassVar[bool] = True
    facts = Facts("lower", unbiased_guide=False, guide_follows="MIWAE", paper="1802.04537")

    def __init__(self, num_groups: int = 8, group_size: int = 8) -> None:
        super().__init__(_product(num_groups, group_size))
        self.num_groups = num_groups
        self.group_size = group_size

    def bound(self, particles: Particles) -> Tensor:
        return log_mean_exp(particles.log_weight)

    def surrogate(self, particles: SeparateParticles) -> Tensor:  # type: ignore[override]
        log_weight = particles.log_weight.detach()
        grouped = log_weight.unflatten(0, (self.num_groups, self.group_size))
        weight = grouped.softmax(1).flatten(0, 1) / self.num_groups
        objective, score = weight * particles.log_weight, weight * -particles.score_term
        if particles.score is not None:
            reward = log_mean_exp(grouped, 1).repeat_interleave(self.group_size, 0) / self.num_groups
            objective, score = objective + particles.score * reward, score + particles.score * reward
        guide = particles.path(objective) + score
        return (log_weight.softmax(0) * particles.model_term + guide).sum(0)

    def __repr__(self) -> str:
        return f"PIWAE(num_groups={self.num_groups}, group_size={self.group_size})"


class CIWAE(Estimator):
    r"""A convex combination of the ELBO and the importance-weighted bound of the same K particles.

    .. math:: \mathcal{L}_i = \beta \frac{1}{K} \sum_k \log w_{ki}
        + (1 - \beta) \log \frac{1}{K} \sum_k w_{ki}

    A lower bound, and unbiased gradients.

    Args:
        beta: the ELBO's share, in [0, 1].
        num_particles: K.

    Raises:
        ValueError: when beta is outside [0, 1].

    Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, arXiv:1802.04537.
    """

    def __init__(self, beta: float = 0.5, num_particles: int = 8) -> None:
        super().__init__(num_particles)
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be in [0, 1], got {beta!r}")
        self.beta = float(beta)
        self.facts = Facts("lower", paper="1802.04537")

    def bound(self, particles: Particles) -> Tensor:
        elbo = particles.log_weight.mean(0)
        return torch.lerp(log_mean_exp(particles.log_weight), elbo, self.beta)

    def __repr__(self) -> str:
        return f"CIWAE(beta={self.beta}, num_particles={self.num_particles})"


def _product(num_groups: int, group_size: int) -> int:
    check_count("num_groups", num_groups)
    check_count("group_size", group_size)
    return num_groups * group_size
