"""Disentangled inferred priors: the covariance of the aggregate posterior is drawn to that of the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, before
from ppl_vae.distributions.factors import factors
from ppl_vae.kl.aggregate import moments_of, prior_covariance, refuse
from ppl_vae.kl.divergence import refuse_summed_prior
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number


@dataclass(frozen=True)
class DIP(KLPenalty):
    r"""A penalty on the covariance of the aggregate posterior where it differs from the prior's.

    .. math:: \mathrm{ELBO} - \lambda_{od} \sum_{j \ne k} (C_{jk} - P_{jk})^2
        - \lambda_d \sum_j (C_{jj} - P_{jj})^2

    .. math:: C^{\mathrm{I}} = \mathrm{Cov}_x\bigl(\mathbb{E}[z \mid x]\bigr), \qquad
        C^{\mathrm{II}} = C^{\mathrm{I}} + \mathbb{E}_x[\mathrm{Cov}(z \mid x)]

    P is the prior's covariance: the identity for a standard normal, as in the paper. The covariance over
    the batch is divided by B.

    Args:
        kind: "I", of the guide's means; "II", of the aggregate posterior.
        lambda_od: the weight off the diagonal.
        lambda_d: the weight on the diagonal; by default, as in the paper, ten times `lambda_od` for
            kind "I" and the same for "II".

    Raises:
        ValueError: for another kind, or a negative weight.
        PairError: in training, for a site that is not a reparameterised vector in no plate but `data`, or
            whose guide does not factorise over dimensions or has no mean and variance, or whose prior has no
            covariance in closed form (a flow, a hierarchy) or none that is finite.

    Kumar, Sattigeri and Balakrishnan, Variational Inference of Disentangled Latent Concepts from
    Unlabeled Observations, arXiv:1711.00848.
    """

    kind: Literal["I", "II"] = "I"
    lambda_od: float = 10.0
    lambda_d: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("I", "II"):
            raise ValueError(f"kind must be 'I' or 'II', got {self.kind!r}")
        check_number("lambda_od", self.lambda_od)
        if self.lambda_d is not None:
            check_number("lambda_d", self.lambda_d)

    def at(self, epoch: float) -> float:
        return 1.0

    def ends(self) -> float:
        return 0.0

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse("DIP", site, example, vector=True)
        refuse_summed_prior("DIP", site, example)
        try:
            moments = moments_of(example, site)
        except (NotImplementedError, AttributeError) as error:
            name = type(example.guide_trace.nodes[site]["fn"]).__name__
            raise PairError(
                f"DIP: the guide's {name} of site {site!r} has no mean and variance in closed form: use "
                f"kl.TotalCorrelation, kl.FactorVAE or kl.MMD"
            ) from error
        if not all(bool(moment.isfinite().all()) for moment in moments):
            raise PairError(f"DIP: the mean or variance of the guide's site {site!r} is not finite")
        _check_prior(site, example)
        return DIPPenalty(self, site)


def _check_prior(site: str, example: Particles) -> None:
    """Raise PairError for a prior whose covariance is not known."""
    node = example.model_trace.nodes.get(site)
    if node is None:
        raise PairError(f"DIP: the model does not draw site {site!r}, so it has no prior to pull to")
    name, other = (
        type(factors(node["fn"]) or node["fn"]).__name__,
        "use kl.MMD, which needs draws of the prior alone",
    )
    covariance = prior_covariance(example, site)
    if covariance is None:
        raise PairError(f"DIP: the prior {name} of site {site!r} has no covariance in closed form: {other}")
    if not bool(covariance.isfinite().all()):
        raise PairError(f"DIP: the covariance of the prior {name} of site {site!r} is not finite: {other}")
    earlier = sorted(before(example.model_trace, site))
    moments = node["fn"].mean, node["fn"].variance
    if earlier and any(bool((each != each.flatten(0, -2)[0]).any()) for each in moments):
        raise PairError(
            f"DIP: the prior of site {site!r} depends on {earlier}, so its own covariance is not known: "
            f"{other}"
        )


class DIPPenalty(Penalty):
    """The weighted squares of `covariance` minus that of the prior."""

    def __init__(self, treatment: DIP, site: str) -> None:
        super().__init__()
        self.kind = treatment.kind
        self.lambda_od = treatment.lambda_od
        ratio = 10.0 if treatment.kind == "I" else 1.0
        given = treatment.lambda_d
        self.lambda_d = ratio * treatment.lambda_od if given is None else given
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        prior = prior_covariance(particles, self.site)
        assert prior is not None  # DIP.penalty has seen to it
        apart = self.covariance(particles) - prior
        diagonal = apart.diagonal(dim1=-2, dim2=-1)
        off = (apart - diagonal.diag_embed()).square().sum((-2, -1))
        return (self.lambda_od * off + self.lambda_d * diagonal.square().sum(-1)).mean()

    def covariance(self, particles: Particles) -> Tensor:
        """(K, d, d): the covariance that is penalised, over the batch."""
        mean, variance = moments_of(particles, self.site)
        centred = mean - mean.mean(-2, keepdim=True)
        covariance = centred.mT @ centred / mean.shape[-2]
        return covariance if self.kind == "I" else covariance + variance.mean(-2).diag_embed()
