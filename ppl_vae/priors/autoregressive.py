"""The autoregressive prior over codes: each given those before it."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.distributions.in_order import InOrder
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
        return InOrder(self.logits, self.place.new_zeros(self.num_codes, self.num_values))
