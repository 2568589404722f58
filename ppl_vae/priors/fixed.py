"""What priors without a learned part share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ppl_vae.nets.shapes import positive_size


class FixedPrior(nn.Module):
    """A prior of numbers alone: a buffer of zeros, `(latent_dim,)`, says on which device and in which dtype.

    Raises:
        ValueError: for a latent_dim that is no positive integer.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)


class LocationScalePrior(FixedPrior):
    """A fixed prior that a location and a scale decide, the same for all dimensions.

    Raises:
        ValueError: for a scale that is not positive.
    """

    def __init__(self, latent_dim: int, loc: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(latent_dim)
        self.loc = finite("loc", loc)
        self.scale = positive("scale", scale)


def positive(name: str, value: float) -> float:
    """The value, or ValueError unless it is a positive number."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return value


def finite(name: str, value: float) -> float:
    """The value, or ValueError unless it is a finite number."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return value
