"""Conditioned: a transform that a context decides, which remembers its last draw and the Jacobian there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints

from ppl_vae.nets.scale import at_least_float32


class Conditioned(Transform):
    r"""A transform of vectors whose parameters are a function of a context, one context a datum.

    .. math:: y = f(x; c), \qquad \log q(y)
        = \log q(x) - \log \left| \det \frac{\partial f}{\partial x} \right|

    y and the log-determinant come of one evaluation and are remembered, so that the density of a draw
    costs nothing more and needs no inverse; the density elsewhere goes through the inverse of f.

    Shapes: context `(*batch, C)`, x and y `(..., *batch, d)`, log-determinant `(..., *batch)`.

    Args:
        make: from a context to the transform f; zuko's lazy transforms are such functions.
        context: c, float32 or wider (half precision is widened).

    Raises:
        NotImplementedError, KeyError: from the inverse, when f has none.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, make: Callable[[Tensor], Transform], context: Tensor) -> None:
        super().__init__(cache_size=1)
        self.make = make
        self.context = at_least_float32(context)
        self.inner = make(self.context)
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def _call(self, x: Tensor) -> Tensor:
        y, log_det = _with_log_det(self.inner, x)
        self._last = x, y, log_det
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        x: Tensor = self.inner.inv(y)
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., *batch): log |det df/dx|."""
        if self._last is not None and self._last[0] is x and self._last[1] is y:
            return self._last[2]
        return _with_log_det(self.inner, x)[1]


def _with_log_det(transform: Transform, x: Tensor) -> tuple[Tensor, Tensor]:
    # zuko's name: one evaluation of the network instead of two
    together = getattr(transform, "call_and_ladj", None)
    if together is not None:
        y, log_det = together(x)
        return y, log_det
    y = transform(x)
    return y, transform.log_abs_det_jacobian(x, y)


def constant_head(num_features: int, start: Tensor) -> nn.Linear:
    """A linear map of the features to `start`, whatever they are; training makes it depend on them.

    Args:
        num_features: width of the features.
        start: (outputs,), the first bias.
    """
    head = nn.Linear(num_features, len(start))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(start)
    return head
