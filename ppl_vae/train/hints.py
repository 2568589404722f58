"""Hints of a training: those of its start, and a latent that the guide has given up."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ppl_vae.kl import KLPlan
from ppl_vae.testing import PairReport

NOTHING = 0.01
"""Nats per datum: a KL term below says nothing of the data."""
EPOCHS = 5
"""Before so many, a guide may not have begun to learn."""
MANY = 0.1
"""A guard against rare spikes that leaves out a larger share of the data does something else."""


class Hints:
    """What is said of a training that starts or goes badly, each thing once.

    Args:
        report: of `check_pair`; None where it was not asked.
        plan: what is done to the KL term; None for nothing.
        learns: whether the guide has anything to learn; one that is fixed gives nothing up.

    Attributes:
        given: all that was said.
    """

    def __init__(self, report: PairReport | None, plan: KLPlan | None, learns: bool = True) -> None:
        self.given: list[str] = [] if report is None else list(report.hints)
        for site, treatment in () if plan is None else plan.beside.items():
            self.given.append(
                f"site {site!r}: penalties={type(treatment).__name__}(...) is taken from the bound, and what "
                "is optimised, train_bound, is no bound on log p(x) any more; train_elbo is the pair's true "
                "one"
            )
        self.plan = plan
        self._told_of_skips = False
        # a global latent's KL term is shared by all data, and small for each
        sites = () if report is None or not learns else report.latent_sites
        self.watched = [site for site in sites if report is not None and site not in report.global_sites]

    def after(self, row: Mapping[str, float]) -> list[str]:
        """What an epoch adds: sites whose KL term is at zero after the warm-up, and many steps left out."""
        new = []
        for site in list(self.watched):
            value = row.get(f"train_kl_{site}", math.inf)
            # exactly zero is no term at all: a guide of a point, a model without a prior
            if row["epoch"] < max(EPOCHS, 1 + self._ends(site)) or not 0 < abs(value) <= NOTHING:
                continue
            self.watched.remove(site)
            warmed = "a longer warm-up" if self._ends(site) > 0 else "a warm-up, kl=kl.LinearWarmup(...)"
            new.append(
                f"site {site!r}: after {int(row['epoch'])} epochs its KL term is {value:.1g} nats, so that "
                f"the guide says nothing of the data there (posterior collapse). Free bits keep it up, "
                f"fit(..., kl=kl.FreeBits(...)), or {warmed}"
            )
        share = row.get("train_skipped", 0.0)
        if share > MANY and not self._told_of_skips:
            self._told_of_skips = True
            new.append(
                f"skip_norm leaves out {share:.0%} of the data of epoch {int(row['epoch'])}, whose gradient "
                f"has a norm of {row['train_gradient_norm']:.3g} on average: what is left out is not learned "
                "from, so raise skip_norm, or lower learning_rate"
            )
        self.given += new
        return new

    def _ends(self, site: str) -> float:
        """The epoch from which the site's weight is constant."""
        if self.plan is None or site not in self.plan.by_site:
            return 0.0
        return self.plan.by_site[site].ends()
