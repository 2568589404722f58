"""Free bits: a floor under the KL term, below which it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError
from ppl_vae.kl.divergence import kl_by_dimension, refuse_unknown_gradient
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number


@dataclass(frozen=True)
class FreeBits(KLPenalty):
    r"""A number of nats that the KL term of each dimension, or of the site, has for free.

    .. math:: \log p(x \mid z) - \sum_j \max\Bigl(\lambda, \tfrac1B \sum_i \mathrm{KL}_j(x_i)\Bigr)

    KL_j is that of one dimension of the site, in closed form where there is one and at the particles
    elsewhere, or of the whole site. Its mean over the batch has no gradient while it is below lambda.

    Args:
        nats: lambda.
        per: "dimension" (of the event and of inner plates) or "site".

    Raises:
        ValueError: for a negative number, or another `per`.
        PairError: in training, for a site that does not factorise over its dimensions (with "dimension"),
            that is outside the `data` plate, or whose KL has no pathwise gradient.

    Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow, arXiv:1606.04934,
    appendix C.8.
    """

    nats: float
    per: Literal["dimension", "site"] = "dimension"

    def __post_init__(self) -> None:
        check_number("nats", self.nats)
        if self.per not in ("dimension", "site"):
            raise ValueError(f"per must be 'dimension' or 'site', got {self.per!r}")

    def at(self, epoch: float) -> float:
        return 0.0

    def ends(self) -> float:
        return 0.0

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse_unknown_gradient("FreeBits", site, example)
        if self.per == "dimension" and kl_by_dimension(example, site) is None:
            raise PairError(
                f"FreeBits(per='dimension'): the distributions of site {site!r} do not both factorise over "
                f"dimensions, so there is no KL of each: use FreeBits({self.nats:g}, per='site')"
            )
        return FreeBitsPenalty(self, site)


class FreeBitsPenalty(Penalty):
    """What `FreeBits` puts in place of the site's KL term."""

    def __init__(self, treatment: FreeBits, site: str) -> None:
        super().__init__()
        self.nats = treatment.nats
        self.per = treatment.per
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        if self.per == "site":
            return particles.kl(self.site).mean().clamp_min(self.nats)
        divergence = kl_by_dimension(particles, self.site)
        assert divergence is not None  # `FreeBits.penalty` has seen to it
        return divergence.mean((0, 1)).clamp_min(self.nats).sum()
