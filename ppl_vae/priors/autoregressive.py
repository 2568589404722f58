"""The autoregressive prior over codes: each given those before it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.distributions.bits import OneHot, corner
from ppl_vae.nets.shapes import positive_size


class Autoregressive(nn.Module):
    r"""Codes as one-hot vectors, each with probabilities that the codes before it decide.

    .. math:: p(z) = \prod_n \mathrm{Categorical}\bigl(z_n; \mathrm{softmax}(l_n(z_1, \ldots, z_{n-1}))\bigr)

    The logits come from causal convolutions of kernel 2 and dilation 1, 2, 4, ..., as many as it takes for
    the last code to see the first, between residual connections; they start at 0, the uniform prior. A
    density costs one pass, a draw num_codes passes.

    Args:
        num_codes: how many codes a datum has, in the order in which they are drawn.
        num_values: C.
        hidden: the channels.

    van den Oord et al., Neural Discrete Representation Learning, arXiv:1711.00937, section 3.3.

    >>> prior = Autoregressive(num_codes=3, num_values=4)
    >>> prior().sample((5,)).shape
    torch.Size([5, 3, 4])
    """

    def __init__(self, num_codes: int, num_values: int, hidden: int = 64) -> None:
        super().__init__()
        self.num_codes = positive_size("num_codes", num_codes)
        self.num_values = positive_size("num_values", num_values)
        self.hidden = positive_size("hidden", hidden)
        self.embedding = nn.Linear(num_values, hidden, bias=False)
        self.place = nn.Parameter(0.1 * torch.randn(num_codes, hidden))
        depth = max(1, math.ceil(math.log2(num_codes)))
        self.layers = nn.ModuleList(nn.Conv1d(hidden, hidden, 2, dilation=2**i) for i in range(depth))
        self.output = nn.Linear(hidden, num_values)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def latent_dim(self) -> int:
        """The numbers of all codes side by side: num_codes * num_values."""
        return self.num_codes * self.num_values

    def logits(self, codes: Tensor) -> Tensor:
        """(\\*batch, num_codes, num_values): of each code, from the codes before it."""
        flat = codes.reshape(-1, self.num_codes, self.num_values).to(self.place.dtype)
        before = functional.pad(self.embedding(flat), (0, 0, 1, 0))[:, :-1]
        h = (before + self.place).mT
        for number, layer in enumerate(self.layers):
            h = h + functional.elu(layer(functional.pad(h, (2**number, 0))))
        return self.output(h.mT).reshape(codes.shape)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (num_codes, num_values)."""
        return InOrder(self)


class InOrder(dist.TorchDistribution):
    """One-hot codes drawn one after the other; `prior.logits` gives those of each from the ones before it."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.one_hot, 1)

    def __init__(
        self, prior: Autoregressive, batch_shape: Any = (), validate_args: bool | None = None
    ) -> None:
        self.prior = prior
        event_shape = torch.Size([prior.num_codes, prior.num_values])
        super().__init__(torch.Size(batch_shape), event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> InOrder:
        return InOrder(self.prior, batch_shape, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """(\\*batch,) from (\\*batch, num_codes, num_values)."""
        if self._validate_args:
            OneHot(logits=value.new_zeros(self.event_shape))._validate_sample(value)
        logits = self.prior.logits(value).log_softmax(-1)
        found = (value * logits).sum((-1, -2))
        return found.expand(torch.broadcast_shapes(found.shape, self.batch_shape))

    def following(self, before: Tensor) -> dist.Distribution:
        """(\\*batch,): the next code given those before it, (\\*batch, t, num_values)."""
        number = before.shape[-2]
        whole = functional.pad(before, (0, 0, 0, self.prior.num_codes - number))
        return OneHot(logits=self.prior.logits(whole)[..., number, :])

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        prior = self.prior
        value = prior.place.new_zeros(self._extended_shape(torch.Size(sample_shape)))
        for place in range(prior.num_codes):
            logits = prior.logits(value)[..., place, :]
            value[..., place, :] = dist.OneHotCategorical(logits=logits).sample()
        return value

    @property
    def mode(self) -> Tensor:
        """Each code at its likeliest given those before it, which need not be the likeliest of all."""
        prior = self.prior
        value = prior.place.new_zeros(self._extended_shape())
        for place in range(prior.num_codes):
            now = prior.logits(value)[..., place, :]
            value = torch.cat(
                [value[..., :place, :], corner(now)[..., None, :], value[..., place + 1 :, :]], -2
            )
        return value
