"""The thermodynamic variational objective: the evidence, integrated from guide to posterior."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ppl_vae.core.checks import check_count
from ppl_vae.core.particles import Particles
from ppl_vae.core.separate import SeparateParticles
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts

Partition = Literal["log_uniform", "moments"]


class TVO(Estimator):
    r"""The thermodynamic variational objective.

    .. math:: \log p(x_i) = \int_0^1 \mathbb{E}_{\pi_\beta}[\log w] \, d\beta \ge
        \sum_{j=0}^{J-1} (\beta_{j+1} - \beta_j) \, \mathbb{E}_{\pi_{\beta_j}}[\log w], \qquad
        \pi_\beta \propto q^{1-\beta} p^\beta, \quad 0 = \beta_0 < \dots < \beta_J = 1

    with the expectations by self-normalised importance sampling, so that a beta costs no draws. With
    K particles the integrand is the derivative of E[log mean w^beta] and rises: the sum lies below
    the importance-weighted bound, hence a lower bound, for every fixed partition. Sums taken at the
    right ends, `upper_bound`, lie above log p(x) as K -> infinity. J = 1 is the ELBO.

    Under a scale or mask of the user's pi_beta is :math:`q w^\beta` with q as drawn.
    No gradient passes through a draw, so any sites will do. The model's gradient is unbiased for
    the bound with a fixed partition. The guide's, a covariance under pi_beta, is biased at finite K.

    Args:
        num_particles: K.
        num_intervals: J.
        partition: "log_uniform" spaces beta_1 ... beta_J = 1 evenly in the logarithm from `first`;
            "moments" spaces, for each datum, E_{pi_beta}[log w] evenly from the ELBO to its value at 1.
        first: beta_1 of the log-uniform partition, in (0, 1).

    Raises:
        ValueError: for an unknown partition, or numbers out of range.

    Masrani, Le and Wood, The Thermodynamic Variational Objective, arXiv:1907.00031;
    Brekelmans et al., All in the Exponential Family, arXiv:2007.00642, for the moments.
    """

    separates: ClassVar[bool] = True

    def __init__(
        self,
        num_particles: int = 10,
        num_intervals: int = 5,
        partition: Partition = "log_uniform",
        first: float = 0.025,
    ) -> None:
        super().__init__(num_particles)
        check_count("num_intervals", num_intervals)
        if partition not in ("log_uniform", "moments"):
            raise ValueError(f"partition must be 'log_uniform' or 'moments', got {partition!r}")
        if not 0 < first < 1:
            raise ValueError(f"first must be in (0, 1), got {first!r}")
        self.num_intervals = num_intervals
        self.partition = partition
        self.first = first
        self.facts = Facts(
            "lower",
            unbiased_model=partition == "log_uniform",
            unbiased_guide=False,
            guide_follows="the bound, by covariances",
            paper="1907.00031",
        )

    def bound(self, particles: Particles) -> Tensor:
        beta = self.betas(particles)
        return (beta.diff(dim=0) * _moments(particles.log_weight, beta[:-1])).sum(0)

    def upper_bound(self, particles: Particles) -> Tensor:
        """(B,) nats: the sum at the right ends, above log p(x) as K -> infinity and above the bound
        always.
        """
        beta = self.betas(particles)
        return (beta.diff(dim=0) * _moments(particles.log_weight, beta[1:])).sum(0)

    def surrogate(self, particles: SeparateParticles) -> Tensor:  # type: ignore[override]
        beta = self.betas(particles)
        left, width = beta[:-1].unsqueeze(1), beta.diff(dim=0).unsqueeze(1)  # (J, 1, B)
        log_weight = particles.log_weight.detach()
        weight = (left * log_weight).softmax(1)
        moment = (weight * log_weight).sum(1, keepdim=True)
        moved = particles.model_term - particles.score_term
        # q w^beta: a scale or a mask is in the weights, not in the guide that draws
        log_path = left * moved + particles.draw_term
        return (width * weight * (moved + (log_weight - moment) * log_path)).sum((0, 1))

    def betas(self, particles: Particles) -> Tensor:
        """(J + 1, B): the partition of each datum, from 0 to 1."""
        log_weight = particles.log_weight.detach()
        if self.partition == "moments":
            return _moment_spaced(log_weight, self.num_intervals)
        inner = torch.ones(1)
        if self.num_intervals > 1:
            inner = torch.logspace(torch.tensor(self.first).log10().item(), 0.0, self.num_intervals)
        beta = torch.cat([torch.zeros(1), inner]).to(log_weight)
        return beta.unsqueeze(1).expand(-1, log_weight.shape[1])

    def __repr__(self) -> str:
        return (
            f"TVO(num_particles={self.num_particles}, num_intervals={self.num_intervals}, "
            f"partition={self.partition!r})"
        )


def _moments(log_weight: Tensor, beta: Tensor) -> Tensor:
    """E_{pi_beta}[log w] for (K, B) log-weights and (J, B) betas: (J, B)."""
    return ((beta.unsqueeze(1) * log_weight).softmax(1) * log_weight).sum(1)


def _moment_spaced(log_weight: Tensor, num_intervals: int, halvings: int = 20) -> Tensor:
    """(J + 1, B): betas whose moments are evenly spaced, by halving intervals: no branch on a value."""
    ends = torch.stack([torch.zeros_like(log_weight[0]), torch.ones_like(log_weight[0])])
    bottom, top = _moments(log_weight, ends)
    share = torch.arange(1, num_intervals, device=log_weight.device).to(log_weight) / num_intervals
    target = bottom + share.unsqueeze(1) * (top - bottom)
    low, width = torch.zeros_like(target), 1.0
    for _ in range(halvings):
        width = width / 2
        low = torch.where(_moments(log_weight, low + width) < target, low + width, low)
    return torch.cat([ends[:1], low, ends[1:]])
