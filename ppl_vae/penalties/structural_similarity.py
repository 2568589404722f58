"""The structural similarity of images at several scales, and a penalty on what it lacks to one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError
from ppl_vae.estimators import Facts
from ppl_vae.kl.treatment import Penalty, check_number
from ppl_vae.penalties.treatment import pictures_of, refuse

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first: those of the paper
_LEAST = 1e-6  # a root of zero has no gradient


@dataclass(frozen=True)
class MSSSIM:
    r"""What multi-scale structural similarity lacks to one, added to the loss. No bound on log p(x).

    .. math:: \mathrm{ELBO} - \mathrm{weight} \, \mathbb{E}_q
        \bigl[ 1 - \mathrm{MSSSIM}(x, \mathbb{E}[x \mid z]) \bigr]

    Args:
        weight: the penalty of a picture that has nothing of the datum, in nats.
        sigma: deviation of the window, in pixels; the paper's 1.5 needs 11 pixels at the coarsest scale, 0.5
            needs 5.
        scales: how many, each of half the side; the paper's weights of the first ones, made to sum to one.
        data_range: from the least to the greatest value of the data.

    Raises:
        ValueError: for a negative weight, or numbers that are not positive.
        PairError: in training, for a site that is no image of a datum or too small for the scales, data
            beyond `data_range`, or a likelihood that has no mean with a gradient.

    Wang, Simoncelli and Bovik, Multi-scale Structural Similarity for Image Quality Assessment, 2003; in
    training, Zhao, Gallo, Frosio and Kautz, arXiv:1511.08861.
    """

    weight: float = 100.0
    sigma: float = 1.5
    scales: int = 1
    data_range: float = 1.0

    facts: ClassVar[Facts] = Facts("neither", paper="1511.08861")

    def __post_init__(self) -> None:
        check_number("weight", self.weight)
        for name in ("sigma", "data_range"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        if self.scales not in range(1, len(WEIGHTS) + 1):
            raise ValueError(f"scales must be from 1 to {len(WEIGHTS)}, got {self.scales!r}")

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        """The penalty of one observed site."""
        refuse("MSSSIM", site, example, images=True)
        x, _ = pictures_of(example, site)
        side, needed = min(x.shape[-2:]), _window(self.sigma, x).numel() * 2 ** (self.scales - 1)
        if side < needed:
            raise PairError(
                f"MSSSIM: {self.scales} scales under a window of sigma={self.sigma:g} need images of "
                f"{needed} pixels, and those of site {site!r} have {side}: fewer scales, or a smaller sigma"
            )
        extent = float(x.max() - x.min())
        if extent > self.data_range * 1.001:
            raise PairError(
                f"MSSSIM: the data of site {site!r} extend over {extent:.4g}, and data_range is "
                f"{self.data_range:g}: give data_range={extent:.4g}"
            )
        return MSSSIMPenalty(self, site)


class MSSSIMPenalty(Penalty):
    """The weight times one minus the similarity."""

    def __init__(self, treatment: MSSSIM, site: str) -> None:
        super().__init__()
        self.weight, self.sigma = treatment.weight, treatment.sigma
        self.scales, self.data_range = treatment.scales, treatment.data_range
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        x, mean = pictures_of(particles, self.site)
        weights = torch.tensor(WEIGHTS[: self.scales])
        shares = (weights / weights.sum()).tolist()
        found = ms_ssim(mean.flatten(0, 1), x.flatten(0, 1), shares, self.sigma, self.data_range)
        return self.weight * (1 - found.mean())


def ms_ssim(
    x: Tensor, y: Tensor, weights: Sequence[float] = WEIGHTS, sigma: float = 1.5, data_range: float = 1.0
) -> Tensor:
    r"""(N,): the multi-scale structural similarity of two batches of images, 1 for equal ones.

    .. math:: \prod_{s=1}^S \bigl(\text{mean over the image of } c_s \, l_s^{[s = S]}\bigr)_+^{w_s}, \qquad
        c = \frac{2 \sigma_{xy} + C_2}{\sigma_x^2 + \sigma_y^2 + C_2}, \quad
        l = \frac{2 \mu_x \mu_y + C_1}{\mu_x^2 + \mu_y^2 + C_1}

    with moments under a Gaussian window that lies inside of the image (torchmetrics mirrors the image beyond
    its edges for l), and half the side at each next scale.

    Args:
        x, y: (N, channels, height, width).
        weights: w, the finest scale's first.
        sigma: deviation of the window in pixels.
        data_range: L; C_1 = (0.01 L)^2 and C_2 = (0.03 L)^2.

    >>> x = torch.rand(2, 1, 16, 16)
    >>> ms_ssim(x, x, weights=(1.0,))
    tensor([1., 1.])
    """
    window = _window(sigma, x)
    found: Tensor = x.new_ones(len(x))
    for number, weight in enumerate(weights):
        if number:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        structure, both = _moments(x, y, window, data_range)
        value = both if number == len(weights) - 1 else structure
        found = found * value.clamp_min(_LEAST) ** weight
    return found


def _window(sigma: float, like: Tensor) -> Tensor:
    """A Gaussian of some 3.5 deviations to each side, which sums to one."""
    half = int(3.5 * sigma + 0.5)
    places = torch.arange(-half, half + 1, dtype=like.dtype, device=like.device)
    bell = (-(places / sigma).square() / 2).exp()
    return bell / bell.sum()


def _moments(x: Tensor, y: Tensor, window: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """(N,) each: the mean of contrast and structure, and of these times luminance."""
    stacked = torch.stack([x, y, x * x, y * y, x * y])
    flat = stacked.flatten(0, 2).unsqueeze(1)
    smooth = functional.conv2d(functional.conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    mean_x, mean_y, xx, yy, xy = smooth.squeeze(1).unflatten(0, stacked.shape[:3])
    first, second = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # a variance is not negative but for rounding
    variances = (xx - mean_x * mean_x).clamp_min(0) + (yy - mean_y * mean_y).clamp_min(0)
    structure = (2 * (xy - mean_x * mean_y) + second) / (variances + second)
    luminance = (2 * mean_x * mean_y + first) / (mean_x * mean_x + mean_y * mean_y + first)
    return structure.flatten(1).mean(1), (structure * luminance).flatten(1).mean(1)
