"""All contact with zuko: imported without its change to a global of torch, and its flows as Pyro distributions."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from pyro.contrib.zuko import ZukoToPyro
from torch import Tensor
from torch.distributions import Distribution, constraints


def zuko_flows() -> Any:
    """The module `zuko.flows`; importing it leaves the validation of torch's distributions as it was."""
    validates = Distribution._validate_args
    try:
        return importlib.import_module("zuko.flows")
    finally:
        Distribution.set_default_validate_args(validates)


class FlowDistribution(ZukoToPyro):
    """A flow of zuko as a Pyro distribution over vectors, with the `sample` and `support` that Pyro's wrapper lacks."""

    support = constraints.real_vector

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Reparameterised draws, (*sample_shape, *batch, d)."""
        return self.dist.rsample(sample_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> FlowDistribution:
        """The same flow for a larger batch shape."""
        return FlowDistribution(self.dist.expand(torch.Size(batch_shape)))
