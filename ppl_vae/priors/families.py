"""Priors of one parametric family each, fixed: what the guides of the same names belong to."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets.shapes import positive_size
from ppl_vae.spherical import UniformSphere


class LogNormal(nn.Module):
    r"""Independent log-normal latents, log z_j ~ N(loc, scale^2); the guide is `guides.LogNormal`.

    Args:
        latent_dim: the number of latent dimensions.
        loc: the mean of log z.
        scale: the standard deviation of log z, positive.

    Raises:
        ValueError: for a scale that is not positive.

    >>> LogNormal(latent_dim=2)().sample().shape
    torch.Size([2])
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, loc: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)
        _remember_place(self, latent_dim)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.LogNormal(self.zeros + self.loc, self.scale).to_event(1)


class Gamma(nn.Module):
    r"""Independent gamma latents, z_j ~ Gamma(concentration, rate); the guide is `guides.Gamma`.

    Args:
        latent_dim: the number of latent dimensions.
        concentration: positive; the mean is concentration / rate.
        rate: positive.

    Raises:
        ValueError: for a parameter that is not positive.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, concentration: float = 1.0, rate: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.concentration = _positive("concentration", concentration)
        self.rate = _positive("rate", rate)
        _remember_place(self, latent_dim)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Gamma(self.zeros + self.concentration, self.zeros + self.rate).to_event(1)


class Exponential(nn.Module):
    r"""Independent exponential latents, z_j ~ Exp(rate); the guides are `guides.Exponential` and `guides.Gamma`.

    Args:
        latent_dim: the number of latent dimensions.
        rate: positive; the mean is 1 / rate.

    Raises:
        ValueError: for a rate that is not positive.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, rate: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.rate = _positive("rate", rate)
        _remember_place(self, latent_dim)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Exponential(self.zeros + self.rate).to_event(1)


class Gumbel(nn.Module):
    r"""Independent Gumbel latents, z_j ~ Gumbel(loc, scale); the guide is `guides.Gumbel`.

    Args:
        latent_dim: the number of latent dimensions.
        loc: the mode.
        scale: positive.

    Raises:
        ValueError: for a scale that is not positive.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, loc: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)
        _remember_place(self, latent_dim)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Gumbel(self.zeros + self.loc, self.zeros + self.scale).to_event(1)


class Laplace(nn.Module):
    r"""Independent Laplace latents, which favour sparse codes; the guide is `guides.Laplace`.

    Args:
        latent_dim: the number of latent dimensions.
        loc: the mean.
        scale: positive; the variance is 2 scale^2.

    Raises:
        ValueError: for a scale that is not positive.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, loc: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)
        _remember_place(self, latent_dim)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Laplace(self.zeros + self.loc, self.zeros + self.scale).to_event(1)


class StudentT(nn.Module):
    r"""Independent Student-t latents, with heavy tails; the guide is `guides.StudentT`.

    Args:
        latent_dim: the number of latent dimensions.
        degrees: the degrees of freedom, positive.
        loc: the centre.
        scale: positive.

    Raises:
        ValueError: for degrees or a scale that are not positive.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, degrees: float = 5.0, loc: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.degrees = _positive("degrees", degrees)
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)
        _remember_place(self, latent_dim)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.StudentT(self.degrees, self.zeros + self.loc, self.scale).to_event(1)


class Sphere(nn.Module):
    r"""Latents that are uniform on the unit sphere of R^latent_dim; the guide is `guides.PowerSpherical`.

    Args:
        latent_dim: the number of dimensions around the sphere: 2 is the circle.

    Raises:
        ValueError: for fewer than 2 dimensions.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        if latent_dim < 2:
            raise ValueError(f"latent_dim must be at least 2, the circle, got {latent_dim}")
        _remember_place(self, latent_dim)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return UniformSphere(self.zeros)


def _remember_place(prior: nn.Module, latent_dim: int) -> None:
    """A buffer of zeros that moves with the module and says which device and dtype to draw on."""
    prior.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return value


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return value
