"""The support of the data: one clear error for the values outside it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import identity_transform

MISSING = "fill the missing or infinite values, or leave those data out"


def require(name: str, valid: Tensor, x: Tensor, must: str, fix: str) -> None:
    """Raise the error of a likelihood whose data is not all `valid`.

    Args:
        name: the likelihood's class name.
        valid: bool, of the shape of `x`.
        x: the data.
        must: what the data must be.
        fix: what to do, unless the trouble is NaN or infinity.

    Raises:
        ValueError: naming up to three of the offending values, the range of the data and the fix.

    >>> x = torch.tensor([0.0, 12.0, 255.0])
    >>> require("Bernoulli", x <= 1, x, "0 or 1", "divide by 255")
    Traceback (most recent call last):
    ValueError: likelihoods.Bernoulli: data must be 0 or 1, found 12, 255 (min 0, max 255): divide by 255
    """
    if bool(valid.all()):
        return
    offending = x[~valid].detach()
    finite = torch.isfinite(offending)
    # Odd values first: NaN and infinity have their own fix. A sample is enough to show some values.
    shown = offending[~finite] if not bool(finite.all()) else offending
    distinct = list(dict.fromkeys(f"{value:.6g}" for value in shown.flatten()[:10_000].tolist()))
    found = ", ".join(distinct[:3]) + (", ..." if len(distinct) > 3 else "")
    rest = x[torch.isfinite(x)].detach()
    extent = f"min {rest.min().item():.6g}, max {rest.max().item():.6g}" if rest.numel() else "none finite"
    fix = fix if bool(finite.all()) else MISSING
    raise ValueError(f"likelihoods.{name}: data must be {must}, found {found} ({extent}): {fix}")


class SupportChecked:
    """Mixed into a distribution: with validation on, bad data raises the likelihood's own error.

    Only the failing case costs more than the distribution's own validation.
    """

    def check(self, x: Tensor) -> None:
        raise NotImplementedError

    def _validate_sample(self, value: Tensor) -> None:
        try:
            super()._validate_sample(value)  # type: ignore[misc]
        except ValueError:
            if isinstance(value, Tensor):
                self.check(value)
            raise  # the values are fine, so it is the shape that is not


class _FiniteReal(constraints._Real):
    """The real numbers; unlike torch's own constraint it refuses infinity as well as NaN."""

    def check(self, value: Tensor) -> Tensor:
        return torch.isfinite(value)


finite_real = _FiniteReal()


@biject_to.register(_FiniteReal)
@transform_to.register(_FiniteReal)
def _(constraint: _FiniteReal) -> torch.distributions.Transform:
    return identity_transform


class Levels(constraints.Constraint):
    """The evenly spaced levels 0, 1 / (levels - 1), ..., 1."""

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return (value == 0) | (value == 1)
        index = value * (self.levels - 1)
        # Room for the rounding of k / (levels - 1) and of its way back, and for nothing else.
        room = max(1e-3, 4 * self.levels * torch.finfo(value.dtype).eps)
        return (value >= 0) & (value <= 1) & ((index - index.round()).abs() < min(room, 0.1))


def count_fix(x: Tensor) -> str:
    """What to do about data that is no count."""
    if bool((x < 0).any()):
        return "counts are never negative: use likelihoods.Gaussian or likelihoods.Laplace for real data"
    return "give the raw counts, neither normalised nor log-transformed"
