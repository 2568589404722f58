"""Options of every function: whole numbers, seeds and real numbers, checked in one place."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

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


def check_several(name: str, value: Any) -> None:
    """Raise ValueError unless an option has items."""
    try:
        iter(value)
    except TypeError:  # of a tensor without dimensions too
        raise ValueError(f"{name} must be a list, got {value!r:.80}") from None


def checked(**least: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the options of a function before it runs, each by its annotation, whether or not it is used.

    An `int` is a whole number from 1 on, a `float` finite, a `bool` True or False, a `Sequence` has items;
    None goes where the annotation says so. What is the wrong kind would otherwise end in an error of torch's,
    or go through: torch's optimizers write their step size back into a tensor that is given for it.

    Args:
        least: where whole numbers begin, by the option's name, if not at 1.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        kinds = {name: str(parameter.annotation) for name, parameter in signature.parameters.items()}

        @functools.wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:
                given = {}  # Python says what is missing, or too much
            for name, value in given.items():
                _check_kind(name, value, kinds[name], least.get(name, 1))
            return function(*args, **kwargs)

        return checking

    return decorate


def check_given(function: Callable[..., Any], given: Mapping[str, Any], **least: int) -> None:
    """Check options that a function is called with only later, perhaps hours of training later.

    Args:
        function: the one that will be called.
        given: options of it, which go by keyword alone.
        least: as of `checked`.

    Raises:
        TypeError: for an option that the function does not have.
        ValueError: for one of another kind.
    """
    every = inspect.signature(function).parameters.values()
    known = {each.name: str(each.annotation) for each in every if each.kind is each.KEYWORD_ONLY}
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"its options are {', '.join(known)}"
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}: {hint}")
        _check_kind(name, value, known[name], least.get(name, 1))


def _check_kind(name: str, value: Any, kind: str, least: int) -> None:
    kind, _, none = kind.partition(" | ")
    otherwise = "or None" if none == "None" else ""
    if name in ("seed", "given") or (value is None and otherwise):
        return  # they are checked where random numbers are made, and where sites are held
    if kind == "int":
        check_count(name, value, otherwise, least)
    elif kind.startswith(("Sequence[", "Iterable[")):
        check_several(name, value)
    elif kind == "bool" and not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False{otherwise and ' '}{otherwise}, got {value!r:.80}")
    elif kind == "float" and (
        isinstance(value, bool) or not isinstance(value, numbers.Real) or not _is_finite(value)
    ):
        raise ValueError(f"{name} must be a finite number{otherwise and ' '}{otherwise}, got {value!r:.80}")
