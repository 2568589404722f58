"""The discriminator of `Adversarial`, and what it learns by."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import spectral_norm

from ppl_vae.nets import MLP
from ppl_vae.nets.images import downsample
from ppl_vae.nets.shapes import Flatten, image_sides


class Discriminator(nn.Module):
    """Features of a datum, and the logit that it is one; each layer has spectral norm one.

    Args:
        shape: of a datum.
        channels: see `Adversarial`.
    """

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__()
        units = 8 * channels
        try:
            sides = image_sides(shape)
        except ValueError:
            self.features = nn.Sequential(
                Flatten(shape), MLP(torch.Size(shape).numel(), (units, units), activation="leaky_relu")
            )
        else:
            widths = [shape[0], *(channels * 2**stage for stage in range(len(sides) - 1))]
            layers = [each for pair in pairwise(widths) for each in downsample(*pair, "leaky_relu")]
            flatten = Flatten((widths[-1], sides[-1], sides[-1]))
            dense = MLP(flatten.num_features, (units,), activation="leaky_relu")
            self.features = nn.Sequential(*layers, flatten, dense)
        self.logit = nn.Linear(units, 1)
        for layer in [each for each in self.modules() if isinstance(each, nn.Linear | nn.Conv2d)]:
            spectral_norm(layer)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) logits and (n, units) features of x, (n, *shape)."""
        features = self.features(x)
        return self.logit(features).squeeze(-1), features


def discriminator_loss(discriminator: nn.Module, x: Tensor, again: Tensor, drawn: Tensor) -> Tensor:
    r"""Scalar: the cross-entropy of telling data from pictures of either kind.

    .. math:: \mathbb{E} \log(1 + e^{-D(x)}) + \tfrac12 \mathbb{E} \log(1 + e^{D(\hat x)})
        + \tfrac12 \mathbb{E} \log(1 + e^{D(\tilde x)})
    """
    told, taken, made = (discriminator(each)[0] for each in (x, again, drawn))
    return softplus(-told).mean() + (softplus(taken).mean() + softplus(made).mean()) / 2
