"""A penalty on how fast what is decoded changes with the code: the regularised autoencoder's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ppl_vae.core.layout import particle_first
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, latent_names
from ppl_vae.estimators import Facts
from ppl_vae.kl.treatment import Penalty, check_number
from ppl_vae.penalties.treatment import pictures_of, refuse


@dataclass(frozen=True)
class GradientPenalty:
    r"""The squared norm of the Jacobian of the mean of the data by the latents. No bound on log p(x).

    .. math:: \mathrm{ELBO} - \mathrm{weight} \, \mathbb{E}_q
        \Bigl\| \frac{\partial \, \mathbb{E}[x \mid z]}{\partial z} \Bigr\|_F^2
        = \mathrm{ELBO} - \mathrm{weight} \, \mathbb{E}_q \, \mathbb{E}_{v \sim \mathcal{N}(0, I)}
        \bigl\| J^\top v \bigr\|^2

    at the guide's draws, by one random direction v for each, without bias. With `guides.Deterministic`, a
    Gaussian likelihood and the weight of the codes' length as `kl=`, the regularised autoencoder RAE-GP.

    Args:
        weight: of the squared norm.

    Raises:
        ValueError: for a negative weight.
        PairError: in training, for a likelihood that has no mean with a gradient, or whose mean does not
            depend on a latent that the guide draws with one.

    Ghosh, Sajjadi, Vergari, Black and Schoelkopf, From Variational to Deterministic Autoencoders,
    arXiv:1903.12436.
    """

    weight: float = 1e-2

    facts: ClassVar[Facts] = Facts("neither", paper="1903.12436")

    def __post_init__(self) -> None:
        check_number("weight", self.weight)

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        """The penalty of one observed site."""
        refuse("GradientPenalty", site, example, images=False)
        penalty = GradientPenaltyTerm(self.weight, site)
        penalty(example)  # refuses what cannot be
        return penalty


class GradientPenaltyTerm(Penalty):
    """The weight times the squared length of the mean's gradient in a random direction."""

    def __init__(self, weight: float, site: str) -> None:
        super().__init__()
        self.weight = weight
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        _, mean = pictures_of(particles, self.site)
        nodes = particles.guide_trace.nodes
        names = [n for n in latent_names(particles.guide_trace) if nodes[n]["value"].requires_grad]
        gradients: tuple[Tensor | None, ...] = ()
        if names:
            gradients = torch.autograd.grad(
                (mean * torch.randn_like(mean)).sum(),
                [nodes[name]["value"] for name in names],
                create_graph=True,
                allow_unused=True,
            )
        known = [(n, g) for n, g in zip(names, gradients, strict=True) if g is not None]
        if not known:
            raise PairError(
                f"GradientPenalty: the mean of site {self.site!r} does not depend on a latent that the guide "
                "draws with a gradient, or the particles are drawn one by one: use a guide whose draws are "
                "reparameterised, and programs that take several particles at once"
            )
        total = torch.zeros((), dtype=mean.dtype, device=mean.device)
        for name, gradient in known:
            squares = particle_first(gradient, nodes[name], particles.num_particles).square()
            total = total + squares.flatten(2).sum(-1).mean()
        return self.weight * total
