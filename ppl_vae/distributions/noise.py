"""Data in noise: what is left of a datum at a level of noise, and the step back to a level below."""

from __future__ import annotations

import torch
from torch import Tensor


def signal(gamma: Tensor) -> Tensor:
    r"""alpha, the share of a datum that is left, :math:`\alpha^2 = \mathrm{sigmoid}(-\gamma)`."""
    return torch.sigmoid(-gamma).sqrt()


def noise_scale(gamma: Tensor) -> Tensor:
    r"""sigma, the scale of the noise, :math:`\sigma^2 = \mathrm{sigmoid}(\gamma)`."""
    return torch.sigmoid(gamma).sqrt()


def step_back(z: Tensor, data: Tensor, gamma: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    r"""The location and the scale of q(z_s | z_t, x), a step from much noise to less.

    With q(z_t | x) = N(alpha_t x, sigma_t^2), s < t, and :math:`c = 1 - e^{\gamma_s - \gamma_t}`,

    .. math:: q(z_s \mid z_t, x) = \mathcal{N}\left((1 - c) \frac{\alpha_s}{\alpha_t} z_t + c \, \alpha_s x,
        \; c \, \sigma_s^2\right)

    With a guess of x in its place it is the model's step p(z_s | z_t).

    Args:
        z: z_t.
        data: x, or what it is taken to be.
        gamma: the level of z_t, minus the logarithm of its ratio of signal to noise.
        below: that of z_s, which is lower.

    Kingma, Salimans, Poole and Ho, Variational Diffusion Models, arXiv:2107.00630, appendix A.
    """
    change = -torch.expm1(below - gamma)  # exact where the two levels are close
    above, under = signal(gamma), signal(below)
    loc = (1 - change) * (under / above) * z + change * under * data
    return loc, change.sqrt() * noise_scale(below)


def without_noise(z: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
    """The datum that a guess of the noise in z stands for."""
    return (z - noise_scale(gamma) * noise) / signal(gamma)
