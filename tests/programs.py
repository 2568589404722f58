"""Small model/guide programs that the tests share: discrete, hierarchical, masked, subsampled, global."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn


class BernoulliModel(nn.Module):
    """Two binary latents and a normal observation: an evidence that can be summed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.prior_logits = nn.Parameter(torch.tensor([0.3, -0.4]))
        self.weight = nn.Parameter(torch.tensor([1.5, -0.8]))

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Bernoulli(logits=self.prior_logits).to_event(1))
            return pyro.sample("x", dist.Normal(z @ self.weight, 1.0), obs=x)

    def log_joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The four configurations (4, 2) and log p(x, z) of each, (4, B)."""
        z = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).to(x)
        prior = dist.Bernoulli(logits=self.prior_logits).to_event(1).log_prob(z)
        return z, prior[:, None] + dist.Normal((z @ self.weight)[:, None], 1.0).log_prob(x)


class BernoulliGuide(nn.Module):
    """Independent Bernoulli posteriors, logits linear in x: no pathwise gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.5, -0.3]))
        self.offset = nn.Parameter(torch.tensor([0.1, 0.2]))

    def posterior(self, x: Tensor) -> Any:
        return dist.Bernoulli(logits=x[..., None] * self.slope + self.offset).to_event(1)

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.posterior(x))


class ChainModel(nn.Module):
    """Two layers z2 -> z1 -> x with an inner plate of two measurements of each datum: x is (2,
    B)-shaped data.
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.scale = scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        scale = 1.0 if self.scale is None else self.scale
        with pyro.plate("data", len(x), dim=-1):
            with poutine.scale(scale=scale):
                top = pyro.sample("top", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            bottom = pyro.sample("bottom", dist.Normal(self.weight * top.sum(-1), 1.0))
            kept = True if mask is None else mask.T
            with pyro.plate("time", x.shape[1], dim=-2), poutine.mask(mask=kept):
                return pyro.sample("x", dist.Normal(bottom, 0.5), obs=x.T)


class ChainGuide(nn.Module):
    """Draws z2, then z1 given it, in the model's order."""

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.3))
        self.log_scale = nn.Parameter(torch.tensor(-0.2))
        self.scale = scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        total = x.sum(-1)
        with pyro.plate("data", len(x), dim=-1):
            with poutine.scale(scale=1.0 if self.scale is None else self.scale):
                loc = torch.stack([self.slope * total, 0.1 * total], -1)
                top = pyro.sample("top", dist.Normal(loc, self.log_scale.exp()).to_event(1))
            return pyro.sample("bottom", dist.Normal(0.4 * total + 0.2 * top.sum(-1), self.log_scale.exp()))


class Subsampled(nn.Module):
    """Any program of one tensor as a program of (x, index) under plate(N, subsample=index)."""

    def __init__(self, program: nn.Module, size: int) -> None:
        super().__init__()
        self.program = program
        self.size = size

    def forward(self, x: Tensor, index: Tensor) -> Any:
        size, plate = self.size, pyro.plate

        def subsampling(name: str, *args: Any, **kwargs: Any) -> Any:
            if name == "data":
                return plate("data", size, subsample=index, dim=-1)
            return plate(name, *args, **kwargs)

        pyro.plate = subsampling
        try:
            return self.program(x)
        finally:
            pyro.plate = plate


class GlobalMeanModel(nn.Module):
    """A mean shared by all data: theta ~ N(0, 1), x_i ~ N(theta + z_i, 1), z_i ~ N(0, 1), N = size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, index: Tensor | None = None) -> Any:
        theta = pyro.sample("theta", dist.Normal(x.new_zeros(()), 1.0))
        subsample = torch.arange(len(x)) if index is None else index
        with pyro.plate("data", self.size, subsample=subsample, dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            return pyro.sample("x", dist.Normal(theta + z, 1.0), obs=x)


class GlobalMeanGuide(nn.Module):
    """A normal for theta and an amortized normal for each z_i."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.loc = nn.Parameter(torch.tensor(0.4))
        self.log_scale = nn.Parameter(torch.tensor(-1.0))
        self.slope = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, index: Tensor | None = None) -> Any:
        theta = pyro.sample("theta", dist.Normal(self.loc, self.log_scale.exp()))
        subsample = torch.arange(len(x)) if index is None else index
        with pyro.plate("data", self.size, subsample=subsample, dim=-1):
            return pyro.sample("z", dist.Normal(self.slope * (x - theta), 0.7))
