"""What the tests of runs share: a small pair, a quick training,
and programs that a folder does not tell apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import estimators, guides, models, nets

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 20, "progress": False, "device": "cpu"}


def make_data(seed: int = 0, rows: int = 60) -> Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))


def make_pair(activation: str = "tanh", seed: int = 0, **model: Any) -> pv.Pair:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nets.MLPEncoder((5,), 2, hidden=(4,), activation=activation)
        return pv.Pair(models.LinearGaussian(2, 5, **{"noise": 0.5, **model}), guides.MeanField(encoder))


def train(folder: Path, pair: pv.Pair | None = None, x: Any = None, **options: Any) -> pv.Run:
    estimator = options.pop("estimator", None) or estimators.ELBO()
    return pv.fit(
        make_pair() if pair is None else pair,
        estimator,
        make_data() if x is None else x,
        **{**QUICK, "run_dir": folder, **options},
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Bent(nn.Module):
    """A model whose decoder bends by a function that is no argument."""

    bend = staticmethod(torch.tanh)

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(2, 5)

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(type(self).bend(self.linear(z)), 1.0).to_event(1), obs=x)


class Doubling(Bent):
    """Keeps another value under its argument's name, with the same tensors."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = 2 * factor

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            loc = self.factor * self.linear(z)
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


def halved(fraction: float) -> float:
    return 1.0 - fraction / 2


def tenth(fraction: float) -> float:
    return 0.1


def gentle(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=(0.8, 0.99))
