"""FactorVAE: the total correlation of the aggregate posterior, as a discriminator sees it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.core.particles import Particles
from ppl_vae.kl.aggregate import draws_of, refuse
from ppl_vae.kl.learned import LearnedPenalty
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number
from ppl_vae.nets import MLP


@dataclass(frozen=True)
class FactorVAE(KLPenalty):
    r"""A penalty on the total correlation of the aggregate posterior, by a density ratio that is learned.

    .. math:: \mathrm{ELBO} - \gamma \, \mathbb{E}_{q(z)}[f(z)], \qquad
        f \approx \log \frac{q(z)}{\prod_j q(z_j)}

    f is the logit of a multilayer perceptron that tells the guide's draws z_i from draws whose
    dimensions were shuffled over the batch, each by itself. It takes one step of Adam after each of
    the pair's, on the same draws, and is saved with the training. Big batches serve it.

    Args:
        gamma: the weight of the total correlation; the paper's best are 10 to 40.
        hidden: widths of the discriminator's layers; the paper's are six of 1,000.
        learning_rate: the discriminator's.

    Raises:
        ValueError: for a negative gamma, or a learning rate that is not positive.
        PairError: in training, for a site that is not a reparameterised vector in no plate but `data`, or
            whose guide does not factorise over dimensions.

    Kim and Mnih, Disentangling by Factorising, arXiv:1802.05983.
    """

    gamma: float
    hidden: tuple[int, ...] = (256, 256, 256)
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma)
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate!r}")

    def at(self, epoch: float) -> float:
        return 1.0

    def ends(self) -> float:
        return 0.0

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse("FactorVAE", site, example, vector=True)
        return FactorVAEPenalty(self, site, draws_of(example, site))


class FactorVAEPenalty(LearnedPenalty):
    """gamma times the discriminator's mean logit, and the discriminator's own training."""

    def __init__(self, treatment: FactorVAE, site: str, draws: Tensor) -> None:
        net = MLP(draws.shape[-1], tuple(treatment.hidden), 1, activation="leaky_relu")
        super().__init__(net, draws, treatment.learning_rate)
        self.gamma = treatment.gamma
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        draws = draws_of(particles, self.site)
        self.remember(draws)
        return self.gamma * self.judged(draws).mean()

    def loss(self, *seen: Tensor) -> Tensor:
        return discriminator_loss(self.discriminator, *seen)


def discriminator_loss(discriminator: nn.Module, draws: Tensor) -> Tensor:
    r"""Scalar: the cross-entropy of telling draws, (K, B, d), from draws shuffled by dimension.

    .. math:: \tfrac12 \mathbb{E}[\log(1 + e^{-f(z)})] + \tfrac12 \mathbb{E}[\log(1 + e^{f(\tilde z)})]
    """
    shuffled = draws.gather(-2, torch.rand_like(draws).argsort(-2))
    return (softplus(-discriminator(draws)).mean() + softplus(discriminator(shuffled)).mean()) / 2
