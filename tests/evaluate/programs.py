"""Pairs for the tests of evaluation: small programs, each with one property that the tests need."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import nn

from ppl_vae import Pair
from tests.oracle import make_pair


class ExactGuide(nn.Module):
    """The exact posterior of a linear-Gaussian model, its scale times `stretch`."""

    def __init__(self, model: nn.Module, stretch: float = 1.0) -> None:
        super().__init__()
        self.source = [model]  # not a submodule: the model's parameters are the model's
        self.stretch = stretch

    def forward(self, x):
        exact = self.source[0].posterior(x)
        posterior = dist.MultivariateNormal(exact.loc, scale_tril=exact.scale_tril * self.stretch)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", posterior)


def stretched_pair(stretch: float) -> Pair:
    model = make_pair().model
    return Pair(model, ExactGuide(model, stretch))


class TimeModel(nn.Module):
    """An inner plate of 4 steps: z (d,) for each datum, h and x for each of its steps."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("time", 4, dim=-2):
                h = pyro.sample("h", dist.Normal(z.sum(-1), 1.0))
                pyro.sample("x", dist.Normal(h, 0.5), obs=x.T)


class TimeGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x[:, :2] * 0.3, 0.7).to_event(1))
            with pyro.plate("time", 4, dim=-2):
                pyro.sample("h", dist.Normal(x.T * 0.8, 0.5))


class ChainModel(nn.Module):
    """h then z in the model, z then h in the guide: h has no valid closed form."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            h = pyro.sample("h", dist.Normal(x.new_zeros(()), 1.0))
            z = pyro.sample("z", dist.Normal(h, 0.5))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)


class ChainGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.8 * x, 0.4))
            pyro.sample("h", dist.Normal(0.7 * z, 0.5))


class GlobalModel(nn.Module):
    """A latent mean that all data share, and a latent of each datum's own."""

    def forward(self, x):
        mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(mean, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class GlobalGuide(nn.Module):
    def forward(self, x):
        pyro.sample("mean", dist.Normal(x.new_tensor(0.2), 0.5))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.7))
