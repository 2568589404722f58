"""A likelihood in the features of a fixed network, in place of its density: a distance of features."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ppl_vae.core.faults import short
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError
from ppl_vae.estimators import Facts
from ppl_vae.kl.treatment import Penalty, check_number
from ppl_vae.penalties.treatment import pictures_of, refuse


@dataclass(frozen=True)
class Perceptual:
    r"""A normal likelihood in the features of a fixed network, added to the ELBO. No bound on log p(x).

    .. math:: \mathrm{ELBO} - \frac{\mathrm{weight}}2 \, \mathbb{E}_q
        \bigl\| f(x) - f(\mathbb{E}[x \mid z]) \bigr\|^2

    up to a constant log N(f(x); f(E[x | z]), 1 / weight), a density of the features and not of x. The network
    is copied, kept in eval mode, and not trained.

    Args:
        features: the network, from (n, \*event) to (n, ...); such as the first layers of a classifier of the
            same data.
        weight: the precision in the features.

    Raises:
        ValueError: for a negative weight, or features that are no network.
        PairError: in training, for a site that is no picture of a datum, whose likelihood has no mean with a
            gradient, or whose features are not finite numbers for each datum.

    Hou, Shen, Sun and Qiu, Deep Feature Consistent Variational Autoencoder, arXiv:1610.00291.
    """

    features: nn.Module
    weight: float = 1.0

    facts: ClassVar[Facts] = Facts("neither", paper="1610.00291")

    def __post_init__(self) -> None:
        check_number("weight", self.weight)
        if not isinstance(self.features, nn.Module):
            raise ValueError(f"features must be a torch.nn.Module, got {self.features!r:.80}")

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        """The penalty of one observed site."""
        refuse("Perceptual", site, example, images=False)
        penalty = PerceptualPenalty(self, site, example)
        x, _ = pictures_of(example, site)
        try:
            with torch.no_grad():
                found = penalty.features(x[0])
        except Exception as error:
            raise PairError(
                f"Perceptual: the features cannot run on the data of site {site!r}, of shape "
                f"{tuple(x.shape[2:])} each: {short(error)}"
            ) from error
        if found.shape[:1] != x.shape[1:2] or not bool(found.isfinite().all()):
            raise PairError(
                f"Perceptual: the features of site {site!r} must be finite numbers for each of {x.shape[1]} "
                f"data, and have shape {tuple(found.shape)}"
            )
        return penalty


class PerceptualPenalty(Penalty):
    """Half the weighted squared distance of the features."""

    def __init__(self, treatment: Perceptual, site: str, example: Particles) -> None:
        super().__init__()
        x, _ = pictures_of(example, site)
        self.features = copy.deepcopy(treatment.features).to(x).requires_grad_(False).eval()
        self.weight = treatment.weight
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        x, mean = pictures_of(particles, self.site)
        # the data's features are the same for all particles
        wanted = self.features(x[0])
        found = self.features(mean.flatten(0, 1)).unflatten(0, mean.shape[:2])
        squares = (found - wanted).square().flatten(2).sum(-1)
        return self.weight / 2 * squares.mean()
