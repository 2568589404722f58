"""Results as text: aligned lines of a name, a value and a remark."""

from __future__ import annotations

import math
from collections.abc import Sequence


def plus_minus(value: float, error: float) -> str:
    """A value with its standard error, two digits after the point (more where the error is smaller).

    >>> plus_minus(-98.316, 0.451), plus_minus(-98.316, 0.0042), plus_minus(1.0, float("nan"))
    ('-98.32 ± 0.45', '-98.3160 ± 0.0042', '1.00')
    """
    if not math.isfinite(error):
        return f"{value:.2f}"
    digits = 2 if not 0 < error < 0.1 else min(6, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def rows(title: str, lines: Sequence[tuple[str, str, str]]) -> str:
    """A title and lines of (name, value, remark), with names and values aligned."""
    names = max(len(name) for name, _, _ in lines)
    # numbers are aligned at their point, or at their end where there is none
    heads = [_head(value) for _, value, _ in lines]
    left = max(heads)
    padded = [" " * (left - head) + value for head, (_, value, _) in zip(heads, lines)]
    values = max(len(value) for value in padded)
    body = [
        f"  {name:<{names}}  {value:<{values}}  {remark}".rstrip()
        for (name, _, remark), value in zip(lines, padded)
    ]
    return "\n".join([title, *body])


def _head(value: str) -> int:
    first = value.split(" ", 1)[0]
    return first.index(".") if "." in first else len(first)
