"""How far importance sampling falls short of the log-likelihood: annealing on some of the same data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.evaluate.batches import to_data
from ppl_vae.evaluate.importance_sampling import LogLikelihood, log_likelihood
from ppl_vae.evaluate.k_hat import MAX_SHARE
from ppl_vae.evaluate.lines import plus_minus
from ppl_vae.evaluate.some_rows import batches_of, chosen_rows
from ppl_vae.evaluate.statistics import standard_error

NUM_DATA, NUM_CHAINS, NUM_TEMPERATURES, NUM_LEAPFROGS = 50, 4, 50, 5


@dataclass(frozen=True, eq=False)
class Shortfall:
    """What annealing gains over importance sampling, in nats per datum.

    Attributes:
        value: the mean gain over the data that were annealed; nan where `refusal` says why there is none.
        standard_error: of it, from the spread over these data.
        log_likelihood: importance sampling's mean over *all* data plus `value`: a bound from below in
            expectation, as both are, with the noise of the gain alone on top.
        annealed: the annealing's result on the data that it was asked of.
        refusal: why the pair cannot be annealed.
    """

    value: float = math.nan
    standard_error: float = math.nan
    log_likelihood: float = math.nan
    annealed: LogLikelihood | None = field(default=None, repr=False)
    refusal: str = ""

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of a table."""
        if self.annealed is None:
            return [("not annealed", "", self.refusal)]
        size = len(self.annealed.per_datum)
        return [
            (
                "annealed, -log p(x) ≤",
                f"{-self.log_likelihood:.4g}",
                f"{plus_minus(self.value, self.standard_error)} less, on {size:,} of the data, "
                f"T = {self.annealed.num_temperatures}",
            )
        ]


def is_doubtful(found: LogLikelihood) -> bool:
    """Whether k-hat is known and too high for many of the data."""
    return found.share_unreliable > MAX_SHARE  # nan, of too few particles, is not


@one_thread
def shortfall(
    pair: Pair, data: Any, found: LogLikelihood, *, seed: int | None = 0, progress: bool = True
) -> Shortfall:
    r"""Anneal a few of the data that importance sampling was asked of, and take the mean difference.

    .. math:: \widehat{\log p} = \frac{1}{N} \sum_{i=1}^N \log \hat p_{\mathrm{IS}}(x_i)
        + \frac{1}{n} \sum_{j=1}^n
        \bigl(\log \hat p_{\mathrm{AIS}}(x_j) - \log \hat p_{\mathrm{IS}}(x_j)\bigr)

    The difference varies far less over the data than log p(x) does, so a few tell it.

    Args:
        pair: the pair.
        data: the data of `found`.
        found: importance sampling's result.
        seed: of the choice and the chains.
        progress: show a progress bar.
    """
    with questioning(pair, seed, pair.device):
        source = to_data(data, pair)
        chosen = chosen_rows(len(source), min(len(source), NUM_DATA))
        rows = tuple(torch.cat(each) for each in zip(*batches_of(source, chosen)))
    try:
        annealed = log_likelihood(
            pair,
            rows,
            NUM_CHAINS,
            method="ais",
            num_temperatures=NUM_TEMPERATURES,
            num_leapfrogs=NUM_LEAPFROGS,
            seed=seed,
            progress=progress,
        )
    except (PairError, ValueError) as error:
        return Shortfall(refusal=str(error))
    # anew, since the rows of a dynamic split are drawn at every pass
    weighed = log_likelihood(pair, rows, found.num_particles, seed=seed, progress=False, capture=False)
    gain = annealed.per_datum - weighed.per_datum
    value = float(gain.mean())
    return Shortfall(value, standard_error(gain), found.value + value, annealed)
