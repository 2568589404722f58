"""An oracle in time: a linear-Gaussian state-space model, its evidence by the Kalman filter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.core.pair import Pair
from ppl_vae.testing.oracles import Oracle

MOVE, NOISE, EMIT, SCALE = 0.8, 0.6, 1.5, 0.5


def state_space(lengths: Sequence[int] = (5, 3, 1), perturb: float = 0.0, seed: int = 0) -> Oracle:
    r"""Sequences of unequal lengths under a linear-Gaussian state-space model, padded with zeros.

    .. math:: z_t \sim \mathcal{N}(a z_{t-1}, s^2), \quad x_t \sim \mathcal{N}(c z_t, r^2), \quad
        q(z \mid x) = \prod_t q(z_t \mid z_{t-1}, x_{t:T})

    The batch is x, (B, T), and the lengths, (B,). What comes after a sequence's end is masked in both
    programs. The guide's factors are the exact posterior's, by a filter that runs backwards.

    Args:
        lengths: of the sequences, 1 or more.
        perturb: what is added to the guide's means; 0 leaves it exact.
        seed: of the data.

    Kalman, A New Approach to Linear Filtering and Prediction Problems, 1960.

    >>> oracle = state_space()
    >>> oracle.log_evidence(*oracle.batch).shape
    torch.Size([3])
    """
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor(list(lengths))
    x = torch.randn(len(length), int(length.max()), generator=generator, dtype=torch.float64)
    x = x.where(_there(x, length), 0.0)
    pair = Pair(StateSpaceModel(), SmoothingGuide(perturb))
    return Oracle(pair, (x, length), kalman_evidence, perturb == 0)


class StateSpaceModel(nn.Module):
    """The model of `state_space`."""

    def __init__(self) -> None:
        super().__init__()
        self.move = nn.Parameter(torch.tensor(MOVE, dtype=torch.float64))

    def forward(self, x: Tensor, length: Tensor) -> None:
        there = _there(x, length)
        with pyro.plate("data", len(x), dim=-1):
            z = x.new_zeros(())
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=there[:, t]):
                    z = pyro.sample(f"z_{t}", dist.Normal(self.move * z, NOISE))
                    pyro.sample(f"x_{t}", dist.Normal(EMIT * z, SCALE), obs=x[:, t])


class SmoothingGuide(nn.Module):
    """The guide of `state_space`: each step given the one before and all data from here on."""

    def __init__(self, perturb: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(perturb, dtype=torch.float64))

    def forward(self, x: Tensor, length: Tensor) -> None:
        there = _there(x, length)
        precision, linear = _backwards(x, there)
        with pyro.plate("data", len(x), dim=-1):
            z = x.new_zeros(())
            for t in pyro.markov(range(x.shape[1])):
                whole = NOISE**-2 + precision[t]
                loc = (MOVE * z / NOISE**2 + linear[t]) / whole
                with poutine.mask(mask=there[:, t]):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc + self.shift, whole.rsqrt()))


def kalman_evidence(x: Tensor, length: Tensor) -> Tensor:
    """(B,): log p(x) of each sequence, by the filter that runs forwards."""
    there, total = _there(x, length), x.new_zeros(len(x))
    loc, variance = x.new_zeros(len(x)), x.new_zeros(len(x))
    for t in range(x.shape[1]):
        loc, variance = MOVE * loc, MOVE**2 * variance + NOISE**2
        spread = EMIT**2 * variance + SCALE**2
        error = x[:, t] - EMIT * loc
        total = total - 0.5 * (error**2 / spread + (2 * math.pi * spread).log()) * there[:, t]
        gain = EMIT * variance / spread
        loc, variance = loc + gain * error, variance - gain * EMIT * variance
    return total


def _there(x: Tensor, length: Tensor) -> Tensor:
    """(B, T): which steps a sequence has."""
    return torch.arange(x.shape[1], device=x.device) < length[:, None]


def _backwards(x: Tensor, there: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    r"""The data from t on as :math:`\exp(-\tfrac12 \lambda_t z_t^2 + \eta_t z_t)`: both, (B,), by step."""
    precision, linear = [x.new_zeros(len(x))], [x.new_zeros(len(x))]
    for t in reversed(range(x.shape[1])):
        seen = there[:, t].to(x)
        full = precision[0] + seen * EMIT**2 / SCALE**2
        slope = linear[0] + seen * EMIT * x[:, t] / SCALE**2
        precision[0], linear[0] = full, slope
        damped = 1 + NOISE**2 * full
        precision.insert(0, MOVE**2 * full / damped)
        linear.insert(0, MOVE * slope / damped)
    return precision[1:], linear[1:]
