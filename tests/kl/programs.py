"""Pairs for the tests of KL treatments: guides whose parameters are read off the data."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import nn

from ppl_vae import Pair
from ppl_vae.core.drawing import draw


class Model(nn.Module):
    """z ~ N(0, I), x | z ~ N(z, I): x holds a location in its first half and a scale in its second."""

    def forward(self, x):
        d = x.shape[-1] // 2
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(d), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[:, :d])


class Guide(nn.Module):
    """q(z | x) = N(first half of x, second half of x squared)."""

    def posterior(self, x):
        d = x.shape[-1] // 2
        return dist.Normal(x[:, :d], x[:, d:]).to_event(1)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", self.posterior(x))


class LaplaceGuide(Guide):
    """The same with Laplace posteriors."""

    def posterior(self, x):
        d = x.shape[-1] // 2
        return dist.Laplace(x[:, :d], x[:, d:]).to_event(1)


class StudentGuide(Guide):
    """The same with Student's t of 6 degrees of freedom, whose KL to a normal torch does not know."""

    def posterior(self, x):
        d = x.shape[-1] // 2
        return dist.StudentT(6.0, x[:, :d], x[:, d:]).to_event(1)


def read_off() -> Pair:
    return Pair(Model(), Guide())


def particles(x, num_particles=1, guide=None):
    pair = read_off()
    return draw(pair.model, guide or pair.guide, (x,), num_particles=num_particles)


class DiscreteThenNormalModel(nn.Module):
    """A coin c, and z ~ N(c, 1) given it."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            c = pyro.sample("c", dist.Bernoulli(x.new_tensor(0.5)))
            z = pyro.sample("z", dist.Normal(c[..., None], x.new_ones(2)).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


class DiscreteThenNormalGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            c = pyro.sample("c", dist.Bernoulli(logits=x))
            pyro.sample("z", dist.Normal(c[..., None], x.new_ones(2)).to_event(1))
