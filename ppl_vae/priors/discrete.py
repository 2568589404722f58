"""Discrete priors: bits, and one-hot codes, independent of each other."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.distributions.bits import Bits, OneHot
from ppl_vae.nets.shapes import positive_size


class Bernoulli(nn.Module):
    r"""Independent bits, z_j ~ Bernoulli(sigma(l_j)); the guide is `guides.Bernoulli`.

    Args:
        latent_dim: the number of bits.
        learned: learn l, from 0; else they stay fair coins.

    >>> Bernoulli(3)().log_prob(torch.tensor([0.0, 1.0, 1.0])).exp()
    tensor(0.1250, grad_fn=<ExpBackward0>)
    """

    logits: Tensor

    def __init__(self, latent_dim: int, learned: bool = True) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.learned = learned
        _hold(self, torch.zeros(latent_dim), learned)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return Bits(logits=self.logits).to_event(1)


class Categorical(nn.Module):
    r"""Independent codes as one-hot vectors of C values; the guide is `guides.Categorical`.

    .. math:: p(z) = \prod_n \mathrm{Categorical}\bigl(z_n; \mathrm{softmax}(l_n)\bigr)

    Args:
        num_codes: how many codes a datum has.
        num_values: C.
        learned: learn l, from 0; else it stays uniform, and the KL of codes without uncertainty is
            num_codes log C.

    >>> Categorical(2, 4, learned=False)().log_prob(torch.eye(4)[[0, 3]]).exp()
    tensor(0.0625)
    """

    logits: Tensor

    def __init__(self, num_codes: int, num_values: int, learned: bool = True) -> None:
        super().__init__()
        self.num_codes = positive_size("num_codes", num_codes)
        self.num_values = positive_size("num_values", num_values)
        self.learned = learned
        _hold(self, torch.zeros(num_codes, num_values), learned)

    @property
    def latent_dim(self) -> int:
        """The numbers of all codes side by side: num_codes * num_values."""
        return self.num_codes * self.num_values

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (num_codes, num_values)."""
        return OneHot(logits=self.logits).to_event(1)


def _hold(prior: nn.Module, logits: Tensor, learned: bool) -> None:
    if learned:
        prior.logits = nn.Parameter(logits)
    else:
        prior.register_buffer("logits", logits, persistent=False)
