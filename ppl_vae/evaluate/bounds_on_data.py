"""The evidence lower bound of a pair on data, split into reconstruction and the KL of each latent site."""

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
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.loop import batches, check_pair_type, refuse_nan
from ppl_vae.evaluate.statistics import standard_error


@dataclass(frozen=True, eq=False)
class Bounds:
    """The ELBO over a data set and its terms, in nats per datum.

    Attributes:
        elbo: the mean over the data: `reconstruction` minus all of `kl`.
        reconstruction: E_q[log p(x | z)], the mean over the data.
        kl: KL(q || p) by latent site, the mean over the data.
        standard_error: of `elbo`, from its spread over the data.
        num_particles: K.
        per_datum: (N,) ELBO, float64, without the global sites' terms.
        kl_per_datum: (N,) by latent site inside the `data` plate, float64.
    """

    elbo: float
    reconstruction: float
    kl: Mapping[str, float]
    standard_error: float
    num_particles: int
    per_datum: Tensor = field(repr=False)
    kl_per_datum: Mapping[str, Tensor] = field(repr=False)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        terms = [("reconstruction", f"{self.reconstruction:.2f}", "")]
        terms += [(f"KL {site}", f"{value:.2f}", "") for site, value in self.kl.items()]
        return [("ELBO", plus_minus(self.elbo, self.standard_error), f"K = {self.num_particles:,}"), *terms]

    def __str__(self) -> str:
        return rows(f"{len(self.per_datum):,} data, nats per datum", self.lines())


@one_thread
@checked()
def bounds(
    pair: Pair,
    data: Any,
    num_particles: int = 1,
    *,
    batch_size: int | None = None,
    seed: int | None = 0,
    progress: bool = False,
) -> Bounds:
    r"""The evidence lower bound over a data set, its reconstruction term and the KL of each latent site.

    .. math:: \mathcal{L}_i = \mathbb{E}_q[\log p(x_i \mid z)]
        - \sum_s \mathrm{KL}\bigl(q(z^s \mid x_i) \,\|\, p(z^s)\bigr)

    A site's KL is in closed form where Pyro has one and where the guide draws, before the site, all
    that the model draws before it; else it is the mean of log q - log p over the particles. KL
    weights and the `data` plate's scale do not enter; masks and a user's own scale do. The KL of a
    latent outside the `data` plate is shared out equally among these data.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes.
        num_particles: K, draws from the guide for each datum.
        batch_size: data at a time; chosen for the cache where None.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.

    Raises:
        PairError: a pair that breaks the contract, or a NaN (the datum and the site are named).
        ValueError: data that is empty or has lengths that differ, or a number that is not positive.

    Kingma and Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """
    check_pair_type(pair)
    kl: dict[str, Tensor] = {}
    outside: dict[str, float] = {}
    with questioning(pair, seed, pair.device):
        source, runs = batches(
            pair, data, num_particles,
            batch_size=batch_size, chunk=None, progress=progress, description="bounds",
        )  # fmt: skip
        # filled in place, so that the heap does not grow: see log_likelihood
        reconstruction = torch.empty(len(source), dtype=torch.float64)
        for batch in runs:
            rows_done = slice(batch.first, batch.first + len(batch))
            sums: dict[str, Any] = {}
            total = torch.zeros(len(batch), dtype=torch.float64)
            for particles in batch.particles():
                total += _summed(particles.reconstruction)
                for site in (*particles.latent_sites, *particles.global_sites):
                    sums[site] = sums.get(site, 0.0) + _summed(particles.kl(site))
            for site in particles.global_sites:
                # each batch has draws of its own, and stands for its share of the data
                share = len(batch) / len(source) / num_particles
                outside[site] = outside.get(site, 0.0) + share * float(sums.pop(site)) / len(source)
            refuse_nan(total - sum(sums.values()), particles, batch.first)
            reconstruction[rows_done] = total / num_particles
            for site, value in sums.items():
                kl.setdefault(site, torch.empty_like(reconstruction))[rows_done] = value / num_particles
    per_datum = reconstruction - sum(kl.values())
    return Bounds(
        elbo=float(per_datum.mean()) - math.fsum(outside.values()),
        reconstruction=float(reconstruction.mean()),
        kl={site: float(value.mean()) for site, value in kl.items()} | outside,
        standard_error=standard_error(per_datum),
        num_particles=num_particles,
        per_datum=per_datum,
        kl_per_datum=kl,
    )


def _summed(term: Tensor) -> Tensor:
    # on the host, since not every device has float64
    return term.cpu().sum(0, dtype=torch.float64)
