"""Options of every function: whole numbers, seeds and real numbers, checked in one place."""

from __future__ import annotations

import math
import numbers
from typing import Any

MAX_SEED = 2**63 - 1


def check_count(
    name: str, value: Any, otherwise: str = "", least: int = 1, error: type[ValueError] = ValueError
) -> None:
    """Raise `error` unless an option is a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        said = "a positive whole number" if least == 1 else f"a whole number >= {least}"
        raise error(f"{name} must be {said}{otherwise and ' '}{otherwise}, got {value!r}")


def check_seed(name: str, seed: Any, error: type[ValueError] = ValueError) -> None:
    """Raise `error` unless a seed is a whole number that torch takes."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= int(seed) <= MAX_SEED:
        raise error(f"{name} must be a whole number from 0 to 2**63 - 1, got {seed!r}")


def check_real(name: str, value: Any, *, above: bool = False) -> None:
    """Raise ValueError unless an option is a finite number, positive (`above`) or not negative."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value)
    if not fits or not (value > 0 if above else value >= 0):
        raise ValueError(f"{name} must be {'positive' if above else '>= 0'} and finite, got {value!r}")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise ValueError unless an option is one of these, of the same type."""
    if not any(type(value) is type(each) and value == each for each in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
