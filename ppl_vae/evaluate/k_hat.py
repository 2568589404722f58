"""Whether k-hat lets an importance-sampling estimate of log p(x) stand, or only as a lower bound."""

from __future__ import annotations

import math

from torch import Tensor

from ppl_vae.evaluate.arviz_support import MIN_PARTICLES_FOR_K_HAT

K_HAT_LIMIT = 0.7

MAX_SHARE = 0.1
"""The share of the data whose k-hat may be too high.

On normal targets in 2 to 40 dimensions with guides of other places and widths, K from 50 to 5,000, the mean
over the data lay within three Monte Carlo errors of the truth up to this share, and ten or more errors below
it from four times the share on.
"""

NEARLY_EQUAL = 0.8
"""The effective share of the particles above which the estimate cannot be far off."""


def k_hat_limit(num_particles: int) -> float:
    r"""The largest k-hat at which K particles give a trustworthy estimate, min(1 - 1 / log10 K, 0.7).

    Vehtari, Simpson, Gelman, Yao and Gabry, Pareto Smoothed Importance Sampling, arXiv:1507.02646.

    >>> k_hat_limit(100), k_hat_limit(10_000)
    (0.5, 0.7)
    """
    if num_particles <= 10:
        return 0.0
    return min(1 - 1 / math.log10(num_particles), K_HAT_LIMIT)


def share_above(k_hat: Tensor, num_particles: int) -> float:
    """The share of the data whose k-hat exceeds the limit; nan for fewer particles than k-hat needs.

    Args:
        k_hat: (N,); nan where the weights are all equal, which is as good as can be.
    """
    if num_particles < MIN_PARTICLES_FOR_K_HAT:
        return math.nan
    return float((k_hat > k_hat_limit(num_particles)).double().mean())


def why_lower_bound(k_hat: Tensor, ess: Tensor, num_particles: int) -> str:
    """Why an estimate is a lower bound on log p(x) and no more; empty where it may stand.

    Of a datum whose weights are nearly all equal the k-hat of a few draws says little, and it does not count.

    Args:
        k_hat, ess: (N,) of each datum.
    """
    if num_particles < MIN_PARTICLES_FOR_K_HAT:
        return f"k-hat needs {MIN_PARTICLES_FOR_K_HAT} particles"
    certain = float(((ess == 1) & (k_hat == math.inf)).double().mean())
    if certain > MAX_SHARE:
        return f"the guide draws one value alone for {certain:.1%} of the data"
    counts = (k_hat > k_hat_limit(num_particles)) & ~(ess > NEARLY_EQUAL * num_particles)
    share = float(counts.double().mean())
    return (
        ""
        if share <= MAX_SHARE
        else f"k-hat above {k_hat_limit(num_particles):.2g} for {share:.1%} of the data"
    )
