"""The Poincare ball: its points, their distances, and the exponential map around one of them."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform
from torch.nn.functional import softplus

_EDGE = 64  # roundings from the sphere around the ball: what a sum of squares may be wrong by


class Ball(constraints.Constraint):
    """The points of R^d nearer than 1 / sqrt(curvature) to the origin, vectors in the last dim."""

    is_discrete = False
    event_dim = 1

    def __init__(self, curvature: float = 1.0) -> None:
        self.curvature = curvature
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether a point lies inside."""
        return self.curvature * value.square().sum(-1) < 1


class Wrapping(Transform):
    r"""From tangent vectors at the origin to the ball, around a point: the exponential map there.

    .. math:: f(v) = \mu \oplus \tanh\Bigl(\frac{\sqrt c \, \|v\|}2\Bigr) \frac{v}{\sqrt c \, \|v\|}

    with Moebius addition. The distance from the point to f(v) is the length of v. Differs in rounding alone
    from a bijection: what would fall onto the sphere around the ball is put a little inside.

    Args:
        loc: mu, (*batch, d), inside the ball; None for the origin.
        curvature: c, positive; the space has curvature -c.
    """

    bijective = True
    domain = constraints.real_vector

    def __init__(self, loc: Tensor | None = None, curvature: float = 1.0, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.loc = loc
        self.curvature = curvature

    @property
    def codomain(self) -> Ball:  # type: ignore[override]
        """The ball."""
        return Ball(self.curvature)

    def with_cache(self, cache_size: int = 1) -> Wrapping:
        """The same with another memory."""
        return self if self._cache_size == cache_size else Wrapping(self.loc, self.curvature, cache_size)

    def _call(self, v: Tensor) -> Tensor:
        length, half = self._length(v)
        y = v * (half.tanh() / (math.sqrt(self.curvature) * length)).unsqueeze(-1)
        return self._inside(y if self.loc is None else moebius_sum(self.loc, y, self.curvature))

    def _inverse(self, z: Tensor) -> Tensor:
        y = self._inside(z if self.loc is None else moebius_sum(-self.loc, z, self.curvature))
        length, _ = self._length(y)
        root = math.sqrt(self.curvature)
        return y * (2 * (root * length).atanh() / (root * length)).unsqueeze(-1)

    def log_abs_det_jacobian(self, v: Tensor, z: Tensor) -> Tensor:
        """(*batch,): of the two parts, along the length and around, and of the movement to mu."""
        length, half = self._length(v)
        dim, root = v.shape[-1], math.sqrt(self.curvature)
        log_cosh = half + softplus(-2 * half) - math.log(2)
        around = (dim - 1) * (half.tanh() / (root * length)).log()
        moved: Tensor | float = 0.0
        if self.loc is not None:
            y = v * (half.tanh() / (root * length)).unsqueeze(-1)
            # an isometry: it takes the ball's own volume at y to that at z, whose ratio is this
            own = (-self.curvature * self.loc.square().sum(-1)).log1p()
            moved = dim * (own - _denominator(self.loc, y, self.curvature).squeeze(-1).log())
        return around - 2 * log_cosh - math.log(2) + moved

    def _length(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(*batch,): the length of tangent vectors, and half of it in units of the curvature."""
        length = (v.square().sum(-1) + torch.finfo(v.dtype).tiny).sqrt()
        return length, math.sqrt(self.curvature) * length / 2

    def _inside(self, z: Tensor) -> Tensor:
        most = (1 - _EDGE * torch.finfo(z.dtype).eps) / math.sqrt(self.curvature)
        length = (z.square().sum(-1, keepdim=True) + torch.finfo(z.dtype).tiny).sqrt()
        return z * (most / length).clamp_max(1)


@biject_to.register(Ball)
def _(support: Ball) -> Wrapping:
    return Wrapping(None, support.curvature)


def distance(x: Tensor, y: Tensor, curvature: float = 1.0) -> Tensor:
    """(*batch,): how far two points of the ball, (*batch, d), are from one another in hyperbolic space.

    >>> distance(torch.zeros(2), torch.tensor([math.tanh(0.5), 0.0]))
    tensor(1.)
    """
    root = math.sqrt(curvature)
    return 2 / root * (root * moebius_sum(-x, y, curvature).norm(dim=-1)).atanh()


def moebius_sum(x: Tensor, y: Tensor, curvature: float = 1.0) -> Tensor:
    r"""The Moebius sum of points of the ball, (*batch, d): where y goes when the origin goes to x.

    .. math:: x \oplus y = \frac{(1 + 2 c \langle x, y \rangle + c \|y\|^2) x + (1 - c \|x\|^2) y}
        {1 + 2 c \langle x, y \rangle + c^2 \|x\|^2 \|y\|^2}
    """
    inner, first, second = _products(x, y)
    top = (1 + 2 * curvature * inner + curvature * second) * x + (1 - curvature * first) * y
    return top / _denominator(x, y, curvature)


def _products(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return tuple((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))  # type: ignore[return-value]


def _denominator(x: Tensor, y: Tensor, curvature: float) -> Tensor:
    inner, first, second = _products(x, y)
    return 1 + 2 * curvature * inner + curvature**2 * first * second
