"""ELBO surgery: the KL term as information and the aggregate posterior's distance from the prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.core.subsampling import draw_whole
from ppl_vae.evaluate.aggregate import Draws, Refusals, log_aggregate
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.loop import batches, check_pair_type, progress_bar, refuse_nan
from ppl_vae.evaluate.statistics import standard_error


@dataclass(frozen=True)
class Estimate:
    """A mean over draws with its standard error, in nats per datum."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return plus_minus(self.value, self.standard_error)


@dataclass(frozen=True, eq=False)
class SiteSurgery:
    """The KL term of one latent site and its parts, in nats per datum.

    Attributes:
        kl: the mean KL(q(z | x) || p(z)): `mutual_information` plus `marginal_kl`.
        mutual_information: I(x; z) of the index of a datum and its code, at most log N.
        marginal_kl: KL(q(z) || p(z)) of the aggregate posterior q(z).
        total_correlation: KL(q(z) || prod_j q(z_j)); None where the marginals of the guide's
            distribution are not known.
        dimension_wise_kl: the sum over dimensions of KL(q(z_j) || p(z_j)): `marginal_kl` minus
            `total_correlation`; None where the prior does not factorise either.
        kl_by_dimension: its terms, of the site's event shape, float64, or None.
    """

    kl: Estimate
    mutual_information: Estimate
    marginal_kl: Estimate
    total_correlation: Estimate | None
    dimension_wise_kl: Estimate | None
    kl_by_dimension: Tensor | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class ElboSurgery:
    """The ELBO's terms over a data set, the KL of each latent site split up; `str` gives the table.

    Attributes:
        elbo, reconstruction: at the same draws as the rest.
        sites: the split of each site.
        left_out: the sites without one, and why.
        num_data: N, the data that the aggregate posterior is summed over.
        num_draws: how many draws the means are taken over.
    """

    elbo: Estimate
    reconstruction: Estimate
    sites: Mapping[str, SiteSurgery]
    left_out: Mapping[str, str]
    num_data: int
    num_draws: int

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        lines = [("ELBO", str(self.elbo), ""), ("reconstruction", str(self.reconstruction), "")]
        most = f"at most log N = {math.log(self.num_data):.2f}"
        for name, site in self.sites.items():
            parts = [
                (f"KL {name}", site.kl, ""),
                ("  mutual information", site.mutual_information, most),
                ("  marginal KL", site.marginal_kl, ""),
                ("    total correlation", site.total_correlation, ""),
                ("    dimension-wise KL", site.dimension_wise_kl, ""),
            ]
            lines += [(part, str(value), remark) for part, value, remark in parts if value is not None]
        return lines + [(f"KL {name}", "", f"not split: {why}") for name, why in self.left_out.items()]

    def __str__(self) -> str:
        title = f"{self.num_data:,} data, {self.num_draws:,} draws, nats per datum"
        return rows(title, self.lines())


@one_thread
@checked()
def elbo_surgery(
    pair: Pair,
    data: Any,
    num_particles: int = 1,
    *,
    num_draws: int | None = None,
    batch_size: int | None = None,
    seed: int | None = 0,
    progress: bool = False,
) -> ElboSurgery:
    r"""The KL term of each latent site, split at the aggregate posterior of a data set.

    .. math:: \frac1N \sum_n \mathrm{KL}\bigl(q(z \mid x_n) \,\|\, p(z)\bigr)
        = \underbrace{I(x; z)}_{\text{information}}
        + \underbrace{\mathrm{KL}\bigl(q(z) \,\|\, p(z)\bigr)}_{\text{marginal KL}},
        \qquad q(z) = \frac1N \sum_n q(z \mid x_n)

    .. math:: \mathrm{KL}\bigl(q(z) \,\|\, p(z)\bigr)
        = \underbrace{\mathrm{KL}\bigl(q(z) \,\|\, \textstyle\prod_j q(z_j)\bigr)}_{\text{total correlation}}
        + \underbrace{\textstyle\sum_j \mathrm{KL}\bigl(q(z_j) \,\|\, p(z_j)\bigr)}_{\text{dimension-wise}}
        \quad \text{if } p(z) = \textstyle\prod_j p(z_j)

    The aggregate is summed over all data exactly; the expectations are means over the guide's draws, so
    that every estimate is unbiased and the identities hold to rounding. It takes N times the number of
    draws times the dimensions evaluations of a density. The standard errors are those of draws at
    data drawn at random, which is never too small where every datum has as many draws.

    A site is left out, with the reason, when the guide draws it given other latents, the prior differs
    between data, a mask or a scale is on it, or it is in further plates.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes.
        num_particles: K, draws from the guide for each datum.
        num_draws: of how many data, chosen at random, the draws are used; None uses all.
        batch_size: data at a time; chosen for the cache where None.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show progress bars.

    Raises:
        PairError: no site that can be split, latents outside the `data` plate, a pair that breaks the
            contract, or a NaN.
        ValueError: data that is empty or has lengths that differ, or a number that is not positive.

    Hoffman and Johnson, ELBO surgery, NIPS 2016 workshop; Chen, Li, Grosse and Duvenaud, Isolating
    Sources of Disentanglement, arXiv:1802.04942.
    """
    check_pair_type(pair)
    draws: dict[str, Draws] = {}
    terms: dict[str, list[Tensor]] = {"elbo": [], "reconstruction": []}
    refusals = Refusals()
    with questioning(pair, seed, pair.device):
        source, runs = batches(
            pair, data, num_particles,
            batch_size=batch_size, chunk=None, progress=progress, description="draws",
        )  # fmt: skip
        for batch in runs:
            alone = draw_whole(pair.model, pair.guide, batch.tensors)
            if alone.global_sites:
                raise PairError(
                    f"elbo_surgery splits the KL of each datum's latents, but {list(alone.global_sites)} are "
                    f"outside the plate 'data': ask for evaluate.bounds, or move them into the plate"
                )
            chunks: list[tuple[Tensor, Tensor]] = []
            for particles in batch.particles():
                refuse_nan(particles.log_weight.sum(0), particles, batch.first)
                chunks.append((particles.log_weight.cpu().double(), particles.reconstruction.cpu().double()))
                for site in particles.latent_sites:
                    if refusals.allow(site, alone, particles):
                        draws.setdefault(site, Draws()).add(site, particles)
            for site in alone.latent_sites:
                if site in draws and site not in refusals.reasons:
                    draws[site].close_batch(alone.guide_trace.nodes[site]["fn"])
            for name, parts in zip(terms, zip(*chunks, strict=True), strict=True):
                terms[name].append(torch.cat(parts).mean(0))
        used = torch.arange(len(source))
        if num_draws is not None and num_draws < len(source):
            used = torch.randperm(len(source))[:num_draws].sort().values
        kept = {site: found for site, found in draws.items() if site not in refusals.reasons}
        if not kept:
            why = "; ".join(f"{site!r}: {reason}" for site, reason in refusals.reasons.items())
            raise PairError(f"elbo_surgery can split the KL of none of the latent sites: {why}")
        total = len(kept) * num_particles * len(used) * len(source)
        with progress_bar(total, "aggregate posterior", "densities", progress) as bar:
            sites = {site: _split(found, used, len(source), bar) for site, found in kept.items()}
    elbo, reconstruction = (_estimate(torch.cat(parts)[used]) for parts in terms.values())
    return ElboSurgery(
        elbo, reconstruction, sites, refusals.reasons, len(source), num_particles * len(used)
    )  # fmt: skip


def _split(draws: Draws, used: Tensor, num_data: int, bar: Any) -> SiteSurgery:
    read = draws.select(used)
    joint, single = log_aggregate(draws.guides, read.z, num_data, bar)
    total_correlation = dimension_wise = by_dimension = None
    if single is not None:
        total_correlation = _estimate((joint - single.sum(-1)).mean(0))
    if single is not None and read.log_p_single is not None:
        ratio = (single - read.log_p_single).mean(0)
        dimension_wise = _estimate(ratio.sum(-1))
        by_dimension = ratio.mean(0).view(read.z.shape[2:])
    return SiteSurgery(
        kl=_estimate((read.log_q - read.log_p).mean(0)),
        mutual_information=_estimate((read.log_q - joint).mean(0)),
        marginal_kl=_estimate((joint - read.log_p).mean(0)),
        total_correlation=total_correlation,
        dimension_wise_kl=dimension_wise,
        kl_by_dimension=by_dimension,
    )


def _estimate(per_datum: Tensor) -> Estimate:
    return Estimate(float(per_datum.mean()), standard_error(per_datum))
