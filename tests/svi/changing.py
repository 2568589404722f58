"""A small model and guide whose parts a test exchanges between steps."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from torch import nn

import ppl_vae as pv

DATA = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 3, dtype=torch.float64)
        self.activation = torch.tanh
        self.scale = np.float64(1.5)
        self.boost = self.twice

    def twice(self, x):
        return 2 * x

    def thrice(self, x):
        return 3 * x

    def forward(self, x):
        pyro.module("model", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            loc = self.boost(self.activation(self.net(z)))
            pyro.sample("x", dist.Normal(loc, float(self.scale)).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self, scale=0.5):
        super().__init__()
        self.net, self.scale = nn.Linear(3, 2, dtype=torch.float64), scale

    def forward(self, x):
        pyro.module("guide", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.net(x), self.scale).to_event(1))


def as_pyros(svi):
    """Graphs without a compiler, with the random numbers of Pyro's."""
    for program in svi._captured.values():
        program.backend, program.same_noise = "graph", True
    return svi


def make(captured, loss=Trace_ELBO, optimizer=pyro.optim.SGD):
    pyro.clear_param_store()
    torch.manual_seed(0)
    arguments = Model(), Guide(), optimizer({"lr": 0.01}), loss()
    return as_pyros(pv.SVI(*arguments, capture=True)) if captured else pyro.infer.SVI(*arguments)
