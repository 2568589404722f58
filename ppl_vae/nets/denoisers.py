"""Denoisers: from data in noise to the noise in them, the nets of a diffusion."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import Activation
from ppl_vae.nets.mlp import MLP
from ppl_vae.nets.shapes import check_event, positive_size, positive_sizes


class Denoiser(Protocol):
    """A net that guesses the noise in z.

    Shapes: z, `(*batch, *event)`, and its level gamma, which broadcasts against `(*batch)`, to
    `(*batch, *event)`, for any leading dims. A datum's guess depends on its own z and gamma alone.
    """

    def __call__(self, z: Tensor, gamma: Tensor, /) -> Tensor: ...


def mixed(z: Tensor, gamma: Tensor, velocity: Tensor) -> Tensor:
    r"""The noise for a net's output v, :math:`\hat\epsilon = \sigma z + \alpha v`.

    With v = 0 it is the best guess for data that are standard normal, at every level of noise; so a net
    whose last layer starts at zero starts there, and what it has to learn is of one size at all levels.

    Salimans and Ho, Progressive Distillation for Fast Sampling of Diffusion Models, arXiv:2202.00512.
    """
    level = gamma.reshape(*gamma.shape, *[1] * (z.dim() - gamma.dim())) if gamma.dim() else gamma
    return torch.sigmoid(level).sqrt() * z + torch.sigmoid(-level).sqrt() * velocity


def of_levels(gamma: Tensor, num_frequencies: int) -> Tensor:
    """(*batch, 1 + 2 num_frequencies) features of levels: the level itself, and waves of it."""
    level = gamma.unsqueeze(-1) / 10  # the levels in use are some ten wide
    waves = (
        level * (math.pi / 2) * 2.0 ** torch.arange(num_frequencies, dtype=gamma.dtype, device=gamma.device)
    )
    return torch.cat([level, waves.sin(), waves.cos()], -1)


class MLPDenoiser(nn.Module):
    r"""A denoiser that is a multilayer perceptron of z and its level.

    .. math:: \hat\epsilon = \sigma z + \alpha \, \mathrm{MLP}(z, \mathrm{waves}(\gamma))

    Shapes: see `Denoiser`. Its last layer starts at zero: see `mixed`.

    Args:
        shape: event shape of the data.
        hidden: widths of the hidden layers.
        num_frequencies: waves of the level among the features.
        activation: see `MLP`.

    Raises:
        ValueError: for bad sizes or options, or an input of another event shape.

    >>> MLPDenoiser((2,), hidden=(16,))(torch.zeros(5, 2), torch.tensor(0.0)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: tuple[int, ...] = (200, 200),
        num_frequencies: int = 4,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.shape = positive_sizes("shape", shape, minimum=1)
        self.num_frequencies = positive_size("num_frequencies", num_frequencies)
        self.activation = activation
        size = math.prod(self.shape)
        self.mlp = MLP(size + 1 + 2 * num_frequencies, hidden, size, activation)
        self.hidden = self.mlp.hidden
        nn.init.zeros_(self.mlp.layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        """The guess of the noise in z, (*batch, *shape)."""
        check_event(z, self.shape)
        flat = z.flatten(-len(self.shape))
        gamma = gamma.expand(flat.shape[:-1])
        velocity = self.mlp(torch.cat([flat, of_levels(gamma, self.num_frequencies)], -1))
        return mixed(z, gamma, velocity.unflatten(-1, self.shape))
