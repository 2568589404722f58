"""All contact with zuko: imported when needed, without its change to a global of torch,
its flows as Pyro distributions.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


def zuko_flows() -> Any:
    """The module `zuko.flows`; importing it leaves the validation of torch's distributions as it was."""
    validates = Distribution._validate_args
    try:
        return importlib.import_module("zuko.flows")
    finally:
        Distribution.set_default_validate_args(validates)


def flow_distribution(flow: Any) -> Any:
    """A flow of zuko as a Pyro distribution over vectors,
    with the `sample` and `support` that Pyro's wrapper lacks.
    """
    return _wrapper()(flow)


@cache
def _wrapper() -> Any:
    # not at the top: it imports all of pyro.contrib, whose classes then share their names with ours
    from pyro.contrib.zuko import ZukoToPyro

    class FlowDistribution(ZukoToPyro):
        support = constraints.real_vector

        def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
            return self.dist.rsample(sample_shape)

        def expand(self, batch_shape: Any, _instance: Any = None) -> FlowDistribution:
            return FlowDistribution(self.dist.expand(torch.Size(batch_shape)))

    return FlowDistribution
