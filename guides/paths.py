"""Paths: how a gradient passes through a guide's discrete draws, or that it does not."""

from __future__ import annotations

import math
from typing import Literal, get_args

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.distributions.bits import Bits, OneHot, PathBits, PathOneHot

Path = Literal["none", "straight-through", "gumbel-softmax", "straight-through gumbel-softmax"]


class Paths(nn.Module):
    r"""The discrete distributions of a guide, with the path that a gradient takes through their draws.

    With logits l, Gumbel noise g and a temperature tau, a relaxed draw is

    .. math:: z = \mathrm{softmax}\bigl((l + g) / \tau\bigr), \qquad
        \text{of a bit } z = \sigma\bigl((l + g_1 - g_0) / \tau\bigr)

    "none" leaves the gradient to the estimator, which knows the score function; "straight-through" takes the
    draw's gradient for its probabilities', "straight-through gumbel-softmax" for the relaxed draw's: these
    draws are discrete, so that the bound is one; its gradient is biased. "gumbel-softmax" draws relaxed
    values in training mode: its objective is no bound then, and in eval mode draws are discrete again.

    Args:
        path: one of the four.
        temperature: tau at the start of a training; a 0-d buffer of the same name, which may be changed in
            place while training.
        cooling: the share of the temperature that is lost at every run in training mode.
        coldest: the temperature at which it stays.

    Raises:
        ValueError: for another path, and numbers out of range.

    Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144; Maddison, Mnih
    and Teh, The Concrete Distribution, arXiv:1611.00712; Bengio, Leonard and Courville, arXiv:1308.3432.
    """

    temperature: Tensor

    def __init__(self, path: Path, temperature: float, cooling: float, coldest: float) -> None:
        super().__init__()
        if path not in get_args(Path):
            raise ValueError(f"path must be one of {list(get_args(Path))}, got {path!r}")
        for name, value in (("temperature", temperature), ("coldest", coldest)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        if not 0 <= cooling < 1:
            raise ValueError(f"cooling must be in [0, 1), got {cooling!r}")
        self.path: Path = path
        self.cooling, self.coldest = cooling, coldest
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def bits(self, logits: Tensor) -> dist.Distribution:
        """Bernoulli, (\\*batch,) from (\\*batch,)."""
        return Bits(logits=logits) if self.path == "none" else PathBits(logits, *self._relaxed())

    def one_hot(self, logits: Tensor) -> dist.Distribution:
        """One-hot vectors, batch shape (\\*batch,), from (\\*batch, C)."""
        return OneHot(logits=logits) if self.path == "none" else PathOneHot(logits, *self._relaxed())

    def cool(self) -> None:
        """Lower the temperature by one step, in place, in training mode."""
        if self.training and self.cooling:
            with torch.no_grad():
                cooler = (self.temperature * (1 - self.cooling)).clamp_min(self.coldest)
                self.temperature.copy_(torch.minimum(self.temperature, cooler))

    def _relaxed(self) -> tuple[Tensor | None, bool]:
        hard = not self.training or self.path != "gumbel-softmax"
        # a copy, since a later run may cool what this one's gradient still needs
        return None if self.path == "straight-through" else self.temperature.clone(), hard
