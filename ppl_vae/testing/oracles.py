"""Oracles: small pairs whose evidence is known exactly, to hold estimators against the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.core.pair import Pair


@dataclass(frozen=True)
class Oracle:
    """A pair in float64, a batch for it, and the truth.

    Attributes:
        pair: model and guide; setting `size` on both makes their `data` plate a subsample of that many.
        batch: what the programs are called with; the data are (B, 2).
        log_evidence: log p(x) of a batch, (B,) nats.
        exact: whether the guide is the model's exact posterior.
    """

    pair: Pair
    batch: tuple[Tensor, ...]
    log_evidence: Callable[..., Tensor]
    exact: bool


def linear_gaussian(perturb: float = 0.0, seed: int = 0) -> Oracle:
    r"""A linear-Gaussian pair with a full-covariance guide.

    .. math:: z \sim \mathcal{N}(0, I_2), \quad x \mid z \sim \mathcal{N}(W z + b, \sigma^2 I), \quad
        q(z \mid x) = \mathcal{N}(A x + c, L L^\top)

    Args:
        perturb: the scale of the noise that moves the guide off the exact posterior; 0 leaves it there.
        seed: of that noise and of the data.

    >>> oracle = linear_gaussian()
    >>> oracle.log_evidence(*oracle.batch).shape
    torch.Size([2])
    """
    model, guide = LinearGaussianModel().double(), LinearGaussianGuide().double()
    guide.set_exact(model)
    _perturb(guide, perturb, seed)
    return Oracle(Pair(model, guide), (_data(seed),), model.log_evidence, perturb == 0)


def bernoulli(perturb: float = 0.0, seed: int = 0) -> Oracle:
    r"""Two bits, each seen through noise of its own: a discrete guide that can be exact.

    .. math:: z_j \sim \mathrm{Bernoulli}(\sigma(a_j)), \quad x_j \mid z_j \sim \mathcal{N}(w_j z_j, 1), \quad
        q(z_j \mid x) = \mathrm{Bernoulli}(\sigma(s_j x_j + t_j))

    Args:
        perturb: as for `linear_gaussian`.
        seed: as for `linear_gaussian`.
    """
    model, guide = BernoulliModel().double(), BernoulliGuide().double()
    guide.set_exact(model)
    _perturb(guide, perturb, seed)
    return Oracle(Pair(model, guide), (_data(seed),), model.log_evidence, perturb == 0)


def chain(perturb: float = 0.1, seed: int = 0) -> Oracle:
    r"""Two latent sites, the second drawn given the first in both programs, an inner plate and a mask.

    .. math:: t \sim \mathcal{N}(0, 1), \quad b \mid t \sim \mathcal{N}(w t, 1), \quad
        x_j \mid b \sim \mathcal{N}(b, \tfrac14) \text{ where } x_j \text{ is not masked}

    Args:
        perturb: the scale of the noise on the guide, which is not the exact posterior in any case.
        seed: of that noise and of the data.
    """
    model, guide = ChainModel().double(), ChainGuide().double()
    _perturb(guide, perturb, seed)
    mask = torch.tensor([[True, True], [True, False]])
    return Oracle(Pair(model, guide), (_data(seed), mask), model.log_evidence, False)


class _Program(nn.Module):
    size: int | None = None

    def plate(self, x: Tensor) -> Any:
        """The `data` plate; with `size`, a subsample of that many of which the batch is the first."""
        if self.size is None:
            return pyro.plate("data", len(x), dim=-1)
        return pyro.plate("data", self.size, subsample=torch.arange(len(x)), dim=-1)


class LinearGaussianModel(_Program):
    """The model of `linear_gaussian`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.4], [-0.3, 0.8]]))
        self.bias = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.log_scale = nn.Parameter(torch.tensor(-0.4))

    def forward(self, x: Tensor) -> Tensor:
        with self.plate(x):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            mean = z @ self.weight.T + self.bias
            return pyro.sample("x", dist.Normal(mean, self.log_scale.exp()).to_event(1), obs=x)

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x), (B,)."""
        noise = (2 * self.log_scale).exp() * torch.eye(2, dtype=x.dtype)
        return dist.MultivariateNormal(self.bias, self.weight @ self.weight.T + noise).log_prob(x)


class LinearGaussianGuide(_Program):
    """The guide of `linear_gaussian`."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(2, 2))
        self.offset = nn.Parameter(torch.zeros(2))
        self.lower = nn.Parameter(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        with self.plate(x):
            loc = x @ self.slope.T + self.offset
            return pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=self.lower.tril()))

    @torch.no_grad()
    def set_exact(self, model: Any) -> None:
        """Become the model's posterior."""
        precision = (-2 * model.log_scale).exp()
        covariance = torch.linalg.inv(torch.eye(2).to(precision) + precision * model.weight.T @ model.weight)
        self.slope.copy_(precision * covariance @ model.weight.T)
        self.offset.copy_(-self.slope @ model.bias)
        self.lower.copy_(torch.linalg.cholesky(covariance))


class BernoulliModel(_Program):
    """The model of `bernoulli`."""

    def __init__(self) -> None:
        super().__init__()
        self.prior_logits = nn.Parameter(torch.tensor([0.3, -0.4]))
        self.weight = nn.Parameter(torch.tensor([1.5, -0.8]))

    def forward(self, x: Tensor) -> Tensor:
        with self.plate(x):
            z = pyro.sample("z", dist.Bernoulli(logits=self.prior_logits).to_event(1))
            return pyro.sample("x", dist.Normal(z * self.weight, 1.0).to_event(1), obs=x)

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x), (B,)."""
        prior = nn.functional.logsigmoid(torch.stack([self.prior_logits, -self.prior_logits]))
        means = torch.stack([self.weight, torch.zeros_like(self.weight)])
        return (prior[:, None] + dist.Normal(means[:, None], 1.0).log_prob(x)).logsumexp(0).sum(-1)


class BernoulliGuide(_Program):
    """The guide of `bernoulli`."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(2))
        self.offset = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        with self.plate(x):
            return pyro.sample("z", dist.Bernoulli(logits=x * self.slope + self.offset).to_event(1))

    @torch.no_grad()
    def set_exact(self, model: Any) -> None:
        """Become the model's posterior."""
        self.slope.copy_(model.weight)
        self.offset.copy_(model.prior_logits - model.weight.square() / 2)


class ChainModel(_Program):
    """The model of `chain`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        with self.plate(x):
            top = pyro.sample("top", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            bottom = pyro.sample("bottom", dist.Normal(self.weight * top.sum(-1), 1.0))
            with pyro.plate("time", 2, dim=-2), poutine.mask(mask=mask.T):
                return pyro.sample("x", dist.Normal(bottom, 0.5), obs=x.T)

    def log_evidence(self, x: Tensor, mask: Tensor) -> Tensor:
        """log p of what the mask leaves of x, (B,)."""
        kept = mask.to(x)
        shared = (self.weight.square() + 1) * kept.unsqueeze(-1) * kept.unsqueeze(-2)
        covariance = shared + torch.diag_embed(0.25 * kept + (1 - kept))
        missing = 0.5 * math.log(2 * math.pi) * (1 - kept).sum(-1)
        return dist.MultivariateNormal(torch.zeros_like(x), covariance).log_prob(x * kept) + missing


class ChainGuide(_Program):
    """The guide of `chain`."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.3, 0.4, 0.2]))
        self.log_scale = nn.Parameter(torch.tensor([-0.2, -0.4]))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        total = (x * mask).sum(-1)
        with self.plate(x):
            loc = (self.slope[0] * total).unsqueeze(-1)
            top = pyro.sample("top", dist.Normal(loc, self.log_scale[0].exp()).to_event(1))
            mean = self.slope[1] * total + self.slope[2] * top.sum(-1)
            return pyro.sample("bottom", dist.Normal(mean, self.log_scale[1].exp()))


def _data(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, generator=generator, dtype=torch.float64)


@torch.no_grad()
def _perturb(guide: nn.Module, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in guide.parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
