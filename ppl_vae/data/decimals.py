"""Numbers as they were written, of which float32 has kept the nearest."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MOST_DIGITS = 17


def shortest(values: NDArray[np.float64], within: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the numbers no farther than `within` from each value the one with the fewest decimals.

    So 168.7, which was standardised and rounded to float32 and has come back as 168.70000038, is 168.7 again.

    Args:
        values: any shape; what is not finite stays.
        within: how far off each may be, of the same shape.

    >>> shortest(np.array([168.70000038, 2.00000002]), np.array([1e-6, 1e-6])).tolist()
    [168.7, 2.0]
    """
    found = values.copy()
    left = np.flatnonzero(np.isfinite(values) & np.isfinite(within))
    widest = float(within.flat[left].max(initial=0.0))
    first = -int(math.log10(widest)) if widest > 1 else 0
    for decimals in range(first, _MOST_DIGITS + 1):
        if not len(left):
            break
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = np.round(values.flat[left], decimals)
        near = np.abs(rounded - values.flat[left]) <= within.flat[left]
        found.flat[left[near]] = rounded[near]
        left = left[~near]
    return found
