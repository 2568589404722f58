"""What keeps an encoder near a codebook, and a codebook near the encoder: the VQ-VAE's two terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, inner_plates
from ppl_vae.distributions.improper import innermost
from ppl_vae.distributions.nearest import Nearest
from ppl_vae.kl.divergence import refuse_outside_data
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number


@dataclass(frozen=True)
class Commitment(KLPenalty):
    r"""The KL term as it is, and the squared distances of the encoder's points to their vectors beside it.

    .. math:: \mathrm{ELBO} - \beta \sum_n \|h_n - \mathrm{sg}\, e_n\|^2
        - \lambda \sum_n \|\mathrm{sg}\, h_n - e_n\|^2

    with e_n the vector of the codebook nearest to h_n, for `guides.VectorQuantised`; sg lets no gradient
    through. The second term is left out for a codebook that learns by moving averages.

    Args:
        weight: beta.
        codebook_weight: lambda.

    Raises:
        ValueError: for a negative weight.
        PairError: in training, for a site whose guide is no `distributions.nearest.Nearest`.

    Van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, arXiv:1711.00937.
    """

    weight: float = 0.25
    codebook_weight: float = 1.0

    def __post_init__(self) -> None:
        check_number("weight", self.weight)
        check_number("codebook_weight", self.codebook_weight)

    def at(self, epoch: float) -> float:
        return 1.0

    def ends(self) -> float:
        return 0.0

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse_outside_data("Commitment", site, example)
        penalty = CommitmentPenalty(self, site)
        penalty(example)  # refuses what cannot be
        return penalty


class CommitmentPenalty(Penalty):
    """The distances, weighed."""

    def __init__(self, treatment: Commitment, site: str) -> None:
        super().__init__()
        self.treatment = treatment
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        each = [self._of_one(part) for part in particles.singles or (particles,)]
        return torch.stack(each).mean()

    def _of_one(self, particles: Particles) -> Tensor:
        node = particles.guide_trace.nodes.get(self.site, {"fn": None})
        nearest = innermost(node["fn"])
        if not isinstance(nearest, Nearest) or inner_plates(node) or node["mask"] not in (None, True):
            raise PairError(
                f"Commitment: the guide of site {self.site!r} is {type(nearest).__name__}, which takes no "
                "nearest vector of a codebook for each datum, without plates within and masks: use "
                "guides.VectorQuantised, or a weight"
            )
        points, vectors = nearest.points, nearest.quantised
        terms = self.treatment.weight * (points - vectors.detach()).square()
        if vectors.requires_grad:
            terms = terms + self.treatment.codebook_weight * (points.detach() - vectors).square()
        return terms.sum((-2, -1)).mean()
