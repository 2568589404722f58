"""Pairs whose rate is known by enumeration or quadrature."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets


class Finite(nn.Module):
    """z of 3 values, x of 8: log p(z), log p(x | z)."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.prior = nn.Parameter(torch.randn(3, generator=generator).log_softmax(-1))
        self.rows = nn.Parameter((2 * torch.randn(3, 8, generator=generator)).log_softmax(-1))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Categorical(logits=self.prior))
            pyro.sample("x", dist.Categorical(logits=self.rows[z]), obs=x.long())


class FiniteGuide(nn.Module):
    """q(z | x), a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Categorical(logits=self.table[x.long()]))


def finite(off: float) -> tuple[pv.Pair, Tensor, Tensor]:
    """The pair, -ELBO and -log2 p(x) in bits of each of the 8 values; the guide is `off` the posterior."""
    generator = torch.Generator().manual_seed(3)
    model = Finite(generator)
    joint = (model.prior[:, None] + model.rows).detach().double()
    posterior = joint.log_softmax(0).T
    table = posterior + off * torch.randn(8, 3, generator=generator)
    q = table.float().double().log_softmax(-1)
    elbo = (q.exp() * (joint.T - q)).sum(-1)
    bits = 1 / np.log(2)
    pair = pv.Pair(model, FiniteGuide(table.float()))
    return pair, -elbo * bits, -joint.logsumexp(0) * bits


def finite_data(count: int) -> Tensor:
    """All 8 values, over and over."""
    return (torch.arange(count) % 8).float()


def binary_vae(latent_dim: int = 1, size: int = 3, seed: int = 0) -> pv.Pair:
    """z normal, x of a few bits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = nets.MLPDecoder(latent_dim, (size,), (4,))
        encoder = nets.MLPEncoder((size,), latent_dim, (4,))
        pair = pv.Pair(models.VAE(likelihoods.Bernoulli(1), decoder, latent_dim), guides.MeanField(encoder))
        with torch.no_grad():
            for parameter in pair.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return pair


def coins(count: int, size: int = 3) -> Tensor:
    """Every pattern of `size` bits, over and over."""
    numbers = torch.arange(count) % 2**size
    return ((numbers[:, None] >> torch.arange(size)) & 1).float()


def ladder(guide: str = "BottomUp", skip: bool = False) -> pv.Pair:
    """Two layers over eight bits."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        hidden = ((6,), (5,))
        model = models.LadderVAE.dense(likelihoods.Bernoulli(1), (8,), (3, 2), hidden, skip=skip)
        if guide == "BottomUp":
            made = guides.BottomUp.dense((8,), (3, 2), hidden)
        else:
            made = guides.TopDown.dense((8,), model.layers, (3, 2), hidden, skip=skip)
        pair = pv.Pair(model, made)
        with torch.no_grad():
            for parameter in pair.parameters():
                parameter.add_(0.15 * torch.randn_like(parameter))
            for encoder, size in zip(made.encoders, (3, 2), strict=True):
                # narrow, so that no draw lies where the prior has next to nothing
                encoder.head.linear.bias[size:] -= 1.0
    return pair
