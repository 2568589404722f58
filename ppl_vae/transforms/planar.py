"""The planar transform, with parameters by datum and an inverse."""

from __future__ import annotations

import math

import torch
from pyro.distributions.transforms.planar import ConditionedPlanar
from torch import Tensor

from ppl_vae.transforms.bend import unbend

# where Pyro's reparameterisation, softplus(a) - 1, is zero: u = 0 then stands for the identity
_START = math.log(math.e - 1)


class Planar(ConditionedPlanar):
    r"""Pyro's planar transform, the identity at u = 0, and with an inverse.

    .. math:: y = x + \hat u \tanh(w^\top x + b), \qquad \log |\det| = \log(1 + (1 - \tanh^2) w^\top \hat u)

    u-hat is u, moved along w to where w'u-hat > -1, so that the transform is a bijection. The inverse
    is found by bisection along w; a draw does not need it.

    Shapes: parameters `(*batch, 2 d + 1)`, x and y `(..., *batch, d)`.

    Args:
        parameters: w, u and b of each datum, side by side; w not zero.

    Rezende and Mohamed, Variational Inference with Normalizing Flows, arXiv:1505.05770.
    """

    def __init__(self, parameters: Tensor) -> None:
        latent_dim = (parameters.shape[-1] - 1) // 2
        weight, u, bias = parameters.split([latent_dim, latent_dim, 1], -1)
        super().__init__((bias, u + _START * weight / weight.square().sum(-1, keepdim=True), weight))

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant that goes with it."""
        y = self._call(x)
        return y, self._cached_logDetJ

    def _inverse(self, y: Tensor) -> Tensor:
        bias, u, weight = self._params
        u_hat = self.u_hat(u, weight)
        along = (weight * y).sum(-1, keepdim=True)
        moved = (weight * u_hat).sum(-1, keepdim=True)
        projection = unbend(along, moved, torch.ones_like(moved), bias)
        return y - u_hat * torch.tanh(projection + bias)
