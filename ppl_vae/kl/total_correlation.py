"""The total correlation of the aggregate posterior, as the beta-TCVAE estimates it in a minibatch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ppl_vae.core.particles import Particles
from ppl_vae.kl.aggregate import cross_log_prob, refuse
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number

Sampling = Literal["minibatch-weighted", "stratified"]
SAMPLINGS: tuple[Sampling, ...] = ("minibatch-weighted", "stratified")


@dataclass(frozen=True)
class TotalCorrelation(KLPenalty):
    r"""A further weight on the total correlation of the aggregate posterior: the beta-TCVAE.

    .. math:: \mathrm{ELBO} - (\beta - 1) \, \mathrm{TC}, \qquad
        \mathrm{TC} = \mathrm{KL}\Bigl(q(z) \,\Big\|\, \prod_j q(z_j)\Bigr), \qquad
        q(z) = \frac1N \sum_n q(z \mid x_n)

    With a batch of B of the N data the densities of the aggregate are estimated as

    .. math:: \hat q(z_i) = \frac{1}{N B} \sum_j q(z_i \mid x_j) \quad \text{(minibatch-weighted)}, \qquad
        \hat q(z_i) = \frac1N q(z_i \mid x_i) + \frac{N - 1}{N (B - 1)} \sum_{j \ne i} q(z_i \mid x_j)
        \quad \text{(stratified)}

    The second is unbiased for q(z_i); the paper gives one j the rest's weight, which has the same
    expectation and more variance. The logarithm of either is biased. The first is off by a constant
    too, about (d - 1) log N, without a gradient.

    Args:
        beta: the weight of the total correlation, all told; 1 is the ELBO.
        estimator: "minibatch-weighted" or "stratified".

    Raises:
        ValueError: for a beta that is negative or not finite, or another estimator.
        PairError: in training, for a site that is not a reparameterised vector in no plate but `data`, or
            whose guide does not factorise over dimensions. Where the guide draws the site given
            others, the aggregate is over those draws too.

    Chen, Li, Grosse and Duvenaud, Isolating Sources of Disentanglement, arXiv:1802.04942.
    """

    beta: float
    estimator: Sampling = "minibatch-weighted"

    def __post_init__(self) -> None:
        check_number("beta", self.beta)
        if self.estimator not in SAMPLINGS:
            raise ValueError(f"estimator must be one of {list(SAMPLINGS)}, got {self.estimator!r}")

    def at(self, epoch: float) -> float:
        return 1.0

    def ends(self) -> float:
        return 0.0

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse("TotalCorrelation", site, example, vector=True)
        return TotalCorrelationPenalty(self, site, data_size)


class TotalCorrelationPenalty(Penalty):
    """(beta - 1) times the estimate of the total correlation."""

    def __init__(self, treatment: TotalCorrelation, site: str, data_size: int) -> None:
        super().__init__()
        self.treatment = treatment
        self.site = site
        self.data_size = data_size

    def forward(self, particles: Particles) -> Tensor:
        cross = cross_log_prob(particles, self.site)
        log_weight = log_weights(len(cross), self.data_size, self.treatment.estimator, cross.detach())
        return (self.treatment.beta - 1) * total_correlation(cross, log_weight)


def total_correlation(cross: Tensor, log_weight: Tensor) -> Tensor:
    """Scalar, nats: the estimate of the total correlation.

    Args:
        cross: (B, *, B, d), log q(z_id | x_j) at [i, ..., j, d].
        log_weight: (B, B), the logarithm of the weight of x_j in the density at z_i.
    """
    log_weight = log_weight.view(len(cross), *(1,) * (cross.dim() - 3), len(cross))
    joint = (cross.sum(-1) + log_weight).logsumexp(-1)
    single = (cross + log_weight.unsqueeze(-1)).logsumexp(-2)
    return (joint - single.sum(-1)).mean()


def log_weights(size: int, data_size: int, estimator: Sampling, like: Tensor) -> Tensor:
    """(B, B): the logarithm of the weight of q(z | x_j) in the density of the aggregate at z_i.

    Args:
        size: B.
        data_size: N.
        estimator: see `TotalCorrelation`.
        like: a tensor of the dtype and on the device that the weights are to have.
    """
    if estimator == "minibatch-weighted":
        return like.new_full((size, size), -math.log(data_size * size))
    others = (data_size - 1) / (data_size * max(size - 1, 1))
    return like.new_full((size, size), others).fill_diagonal_(1 / data_size).log()
