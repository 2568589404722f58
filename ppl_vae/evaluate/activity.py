"""Active units: the latent dimensions whose posterior mean moves with the data."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.faults import traced
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.layout import Site, particle_first
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError, data_frame, latent_names
from ppl_vae.evaluate.batches import plan, size_of, to_data
from ppl_vae.evaluate.lines import rows
from ppl_vae.evaluate.loop import check_pair_type, progress_bar
from ppl_vae.evaluate.statistics import RunningMoments
from ppl_vae.queries.handlers import find_plate_dim, several


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """How many units of each latent site the pair uses.

    Attributes:
        count: active units by latent site.
        total: all units by latent site.
        variance: by latent site, the variance over x of the posterior mean of each unit, float64, of
            the site's shape for one datum.
        threshold: variance above which a unit counts as active.
    """

    count: Mapping[str, int]
    total: Mapping[str, int]
    threshold: float
    variance: Mapping[str, Tensor] = field(repr=False)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        return [
            (f"active units {site}", str(count), f"of {self.total[site]:,}")
            for site, count in self.count.items()
        ]

    def __str__(self) -> str:
        title = f"variance over x of the posterior mean above {self.threshold:g}"
        return rows(title, self.lines())


@one_thread
@checked()
def active_units(
    pair: Pair,
    data: Any,
    threshold: float = 0.01,
    *,
    num_particles: int = 100,
    batch_size: int | None = None,
    seed: int | None = 0,
    progress: bool = False,
) -> ActiveUnits:
    r"""The latent units whose posterior mean varies over the data.

    .. math:: A_u = \mathrm{Var}_x\bigl(\mathbb{E}_{q(z \mid x)}[z_u]\bigr), \qquad
        u \text{ is active when } A_u > \text{threshold}

    The posterior mean is that of the guide's distribution where it has one, averaged over the draws of
    the sites that it depends on, else the mean of the draws. What the averages over K draws add to the
    variance is estimated and taken off, so that a variance can come out slightly below zero.

    Args:
        pair: the guide alone is run; its modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes; of at least two rows.
        threshold: variance above which a unit counts as active; the paper's is 0.01.
        num_particles: K, draws from the guide for each datum, at least two.
        batch_size: data at a time; chosen for the cache where None.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.

    Raises:
        PairError: latent sites outside the `data` plate alone, or a posterior mean that is not finite. A
            guide that draws nothing, for a model that sums over all its latents, has no units.
        ValueError: fewer than two rows or particles, or a threshold below zero.

    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, arXiv:1509.00519, section 5.2.
    """
    check_pair_type(pair)
    if not isinstance(threshold, numbers.Real) or not 0 <= threshold < 2**63:
        raise ValueError(f"threshold must be zero or more, got {threshold!r}")
    source = to_data(data, pair)
    batch_size, _ = plan(source, num_particles, batch_size, num_particles, pair.device)
    if len(source) < 2 or num_particles < 2:
        raise ValueError(
            f"a variance needs two rows of data and two particles, got {len(source)} and {num_particles}"
        )
    posterior_mean: dict[str, RunningMoments] = {}
    noise: dict[str, RunningMoments] = {}
    with (
        questioning(pair, seed, pair.device),
        progress_bar(len(source), "active units", "data", progress) as bar,
    ):
        for batch in source.batches(batch_size):
            for name, site in _guide_sites(pair, batch, num_particles).items():
                means = particle_first(_conditional_mean(site), site, num_particles).double()
                posterior_mean.setdefault(name, RunningMoments()).update(means.mean(0))
                noise.setdefault(name, RunningMoments()).update(means.var(0) / num_particles)
            bar.update(size_of(batch))
    if not posterior_mean and latent_names(prune_subsample_sites(traced(pair.guide, batch, "guide"))):
        raise PairError(
            "the guide has no latent site inside the plate 'data', so there are no units that could vary "
            "with x: put the statements about single data under `with pyro.plate('data', len(x), dim=-1):`"
        )
    variance = {name: moments.variance() - noise[name].mean for name, moments in posterior_mean.items()}
    for name, value in variance.items():
        if not value.isfinite().all():
            raise PairError(
                f"site {name!r}: the guide's posterior mean is not finite for some of the data. Look for NaN "
                f"in the guide's parameters or in the data"
            )
    return ActiveUnits(
        count={name: int((value > threshold).sum()) for name, value in variance.items()},
        total={name: value.numel() for name, value in variance.items()},
        threshold=threshold,
        variance=variance,
    )


def _guide_sites(pair: Pair, batch: Sequence[Tensor], num_particles: int) -> dict[str, Site]:
    """The latent sites inside the `data` plate of K runs of the guide at once."""
    trace = several(pair.guide, batch, num_particles, find_plate_dim(pair, tuple(batch)))
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and data_frame(site) is not None
        if not site["infer"].get("is_auxiliary") and not poutine.util.site_is_subsample(site)
    }


def _conditional_mean(site: Site) -> Tensor:
    """The mean of a site's distribution given the draws before it; the draw itself where there is none."""
    try:
        mean = site["fn"].mean
    except (NotImplementedError, AttributeError):
        return site["value"].to(torch.get_default_dtype())  # type: ignore[no-any-return]
    # torch's Categorical, for one, answers NaN
    return site["value"].to(mean.dtype) if mean.isnan().any() else mean  # type: ignore[no-any-return]
