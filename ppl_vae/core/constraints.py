"""Constraints in words: which numbers a parameter or a site takes, and the first one that it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from pyro.distributions.constraints import sphere
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import lazy_property

from ppl_vae.core.observed import observed_values
from ppl_vae.core.sites import PairError, Site

_WORDS: tuple[tuple[Any, str], ...] = (
    (constraints.real, "real"),
    (constraints.real_vector, "real"),
    (constraints.boolean, "0 or 1"),
    (constraints.one_hot, "one-hot rows"),
    (sphere, "rows of length 1"),
    (constraints.simplex, "rows that are not negative and sum to 1"),
    (constraints.nonnegative_integer, "counts 0, 1, 2, ..."),
    (constraints.positive_integer, "whole numbers 1, 2, 3, ..."),
    (constraints.positive_definite, "positive definite matrices"),
    (constraints.lower_cholesky, "lower triangles with a positive diagonal"),
)


def in_words(constraint: Any) -> str:
    """Which numbers a constraint allows.

    >>> from torch.distributions import constraints
    >>> in_words(constraints.positive), in_words(constraints.unit_interval), in_words(constraints.boolean)
    ('> 0', 'from 0 to 1', '0 or 1')
    """
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    for known, words in _WORDS:
        if constraint is known:
            return words
    low, high = (getattr(constraint, bound, None) for bound in ("lower_bound", "upper_bound"))
    whole = "whole numbers " if getattr(constraint, "is_discrete", False) else ""
    if low is not None and high is not None:
        return f"{whole}from {_one(low)} to {_one(high)}"
    if low is not None:
        return f"{whole}{'>=' if 'Eq' in type(constraint).__name__ or whole else '>'} {_one(low)}"
    if high is not None:
        return f"{whole}< {_one(high)}"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(constraint).__name__.lstrip("_")).lower()


def innermost_name(fn: Any) -> str:
    """The name of a distribution within `to_event`, `mask` and `expand`."""
    while hasattr(fn, "base_dist") and type(fn).__name__ in (
        "Independent",
        "MaskedDistribution",
        "ExpandedDistribution",
    ):
        fn = fn.base_dist
    return type(fn).__name__


def parameter_fault(site: Site) -> tuple[str, str] | None:
    """What is wrong with the parameters of a site's distribution, and the fix;
    None where they are as they must be.
    """
    for fn in _parts(site["fn"]):
        for name, constraint in fn.arg_constraints.items():
            if constraints.is_dependent(constraint):
                continue
            if name not in fn.__dict__ and isinstance(getattr(type(fn), name, None), lazy_property):
                continue  # as torch: the parameter that was not given
            value = getattr(fn, name, None)
            if not isinstance(value, Tensor):
                continue
            good = constraint.check(value)
            if not bool(good.all()):
                kind = innermost_name(fn)
                found = first_bad(value, good)
                reason = (
                    f"site {site['name']!r}: the {name} of its {kind} must be {in_words(constraint)}, and "
                    f"is {found}"
                )
                return reason, _fix(name, value, good, constraint)
    return None


def _fix(name: str, value: Tensor, good: Tensor, constraint: Any) -> str:
    if not bool(value.isfinite().all()):
        return "Look for NaN or infinity in the batch, in the parameters, and in what makes them of these"
    if name == "probs":
        return "A network's output is taken as logits=, which may be any number, and not as probs="
    bounds = [getattr(constraint, bound, None) for bound in ("lower_bound", "upper_bound")]
    if bounds[0] is not None and bounds[1] is None:
        return (
            f"What a network gives is made positive, with a floor: nets.scale.positive_scale(raw), or "
            f"torch.nn.functional.softplus(raw) + 1e-6 ({name})"
        )
    return f"Bring the {name} there by a transform of the network's output"


@runtime_checkable
class ChecksData(Protocol):
    """A distribution, as a likelihood makes it, that knows more of values outside its support than `support`
    does.
    """

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names such values and the fix."""


def support_fault(site: Site) -> str | None:
    """In words, which of a site's values lie outside the support of its distribution;
    None where none does.
    """
    value = observed_values(site["fn"], site["value"])
    for part in _parts(site["fn"]):
        if isinstance(part, ChecksData):
            try:
                part.check(value)
            except ValueError as error:
                return str(error)
    try:
        support = site["fn"].support
        while isinstance(support, constraints.independent):
            support = support.base_constraint  # number by number, and not event by event
        good = support.check(value)
    except (NotImplementedError, AttributeError, RuntimeError, TypeError, ValueError, IndexError):
        return None  # what has no support, or cannot be held against it, shows in the log-density
    if not isinstance(good, Tensor) or bool(good.all()):
        return None
    name = innermost_name(site["fn"])
    return f"its {name} takes values that are {in_words(support)}, and this is {first_bad(value, good)}"


def first_bad(value: Tensor, good: Tensor) -> str:
    """The first wrong number, how many there are, and their range, in a few words."""
    whole_rows = good.shape != value.shape
    bad = ~good.expand(value.shape[: good.dim()]) if whole_rows else ~good
    numbers = value.detach()[bad].flatten()
    if numbers.numel() == 0:
        return "otherwise"
    shown = list(dict.fromkeys(f"{number:.4g}" for number in numbers[:1000].tolist()))
    text = ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
    count = int(bad.sum())
    return f"{text} ({count} of {bad.numel()} {'rows' if whole_rows else 'values'})"


def are_bytes_over_255(value: Tensor) -> bool:
    """Whether values that are no whole numbers are whole ones over 255: what a data set makes of uint8."""
    if not value.is_floating_point() or not value.numel() or not bool(value.isfinite().all()):
        return False
    scaled = value.detach().double() * 255
    fractional = bool((value != value.round()).any())
    return (
        fractional
        and float(value.min()) >= 0
        and float(value.max()) <= 1
        and bool(((scaled - scaled.round()).abs() < 1e-3).all())
    )


COUNTS_IN_BYTES = (
    "These are whole numbers over 255: data in bytes (uint8) is taken for pictures and divided by 255. "
    "Counts are given as another type, x.float() or x.astype('float32')"
)


def _parts(fn: Any) -> Iterator[Distribution]:
    """A distribution and those that it is made of."""
    seen: list[Any] = [fn]
    while seen:
        part = seen.pop(0)
        if isinstance(part, Distribution):
            yield part
            inner = (
                "base_dist",
                "_component_distribution",
                "_mixture_distribution",
                "_base",
                "component_distributions",
            )
            for name in inner:
                found = part.__dict__.get(name)
                seen += list(found) if isinstance(found, list | tuple) else [found]


def _one(bound: Any) -> str:
    if isinstance(bound, Tensor):
        return f"{bound.flatten()[0].item():g}" if bound.numel() == 1 else f"{bound.min().item():g}"
    return "infinity" if bound == math.inf else f"{float(bound):g}"


def is_discrete_support(fn: Any) -> bool | None:
    """Whether a distribution's values are discrete; None for one in points, which goes with either,
    and where unknown.
    """
    if innermost_name(fn) == "Delta":
        return None
    try:
        return bool(fn.support.is_discrete)
    except NotImplementedError:
        return None


def kind_of_density(fn: Any) -> str | None:
    """What a distribution's density is one over: numbers of one kind cannot be held against another's.

    A density on the sphere or the simplex is one by area, of one dimension less than the space around. None
    where `is_discrete_support` says nothing.
    """
    discrete = is_discrete_support(fn)
    if discrete is None:
        return None
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    for surface, name in ((sphere, "sphere"), (constraints.simplex, "simplex")):
        if support is surface:
            return f"continuous on the {name}"
    return "discrete" if discrete else "continuous"


def require_real(site: str, fn: Any) -> None:
    """Raise PairError unless a guide that Hamilton's equations start from draws from all of R^d."""
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if not isinstance(support, type(constraints.real)):
        raise PairError(
            f"site {site!r}: the guide that a Hamiltonian one starts from draws values that are "
            f"{in_words(support)}, and a step leads out of them: it takes a guide over all of R^d, such as "
            "guides.MeanField or a flow"
        )
