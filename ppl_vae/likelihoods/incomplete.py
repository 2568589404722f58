"""Data with gaps under any likelihood that factorises: NaN is an element that nobody knows."""

from __future__ import annotations

from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_vae.core.elements import elements
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.observed import inside
from ppl_vae.likelihoods.contract import Likelihood, event_dim_of


class IncompleteDistribution(TorchDistribution):
    r"""A distribution over events that factorises, of a value with gaps the density of what is seen.

    Args:
        complete: the distribution of complete values.
        fill: a value inside the support, which stands where one is missing; looked for where None.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012, torch's own annotation
    takes_missing = True

    def __init__(self, complete: Any, fill: float | None = None, validate_args: bool | None = None) -> None:
        self.complete, self.fill = complete, fill
        super().__init__(complete.batch_shape, complete.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws have a gradient."""
        return bool(self.complete.has_rsample)

    @property
    def support(self) -> constraints.Constraint:
        """Values whose elements are missing or inside the support."""
        return _OrMissing(self.complete)

    def elements(self) -> IncompleteDistribution:
        """The distribution of the single elements."""
        return IncompleteDistribution(elements(self.complete, "x"), self.fill)

    def log_prob(self, value: Tensor) -> Tensor:
        single, missing = elements(self.complete, "x"), value.isnan()
        fill = inside(single, value, "x") if self.fill is None else self.fill
        terms = single.log_prob(torch.where(missing, fill, value))  # a NaN never meets the density
        if single.event_dim:  # of one-hot vectors, which are missing as a whole
            missing = missing.flatten(-single.event_dim).any(-1)
        seen = torch.where(missing, 0.0, terms)
        first = seen.dim() - self.event_dim + single.event_dim
        return seen.flatten(first).sum(-1) if first < seen.dim() else seen

    def expand(self, batch_shape: Any, _instance: Any = None) -> IncompleteDistribution:
        return IncompleteDistribution(self.complete.expand(torch.Size(batch_shape)), self.fill)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008, as torch writes it
        """A complete value."""
        return cast(Tensor, self.complete.sample(sample_shape))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """A complete value, with its gradient."""
        return cast(Tensor, self.complete.rsample(sample_shape))

    @property
    def mean(self) -> Tensor:
        """That of complete values."""
        return cast(Tensor, self.complete.mean)

    @property
    def variance(self) -> Tensor:
        """That of complete values."""
        return cast(Tensor, self.complete.variance)


class _OrMissing(constraints.Constraint):
    def __init__(self, fn: Any) -> None:
        self.fn = fn
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return bool(self.fn.support.is_discrete)

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return int(self.fn.support.event_dim)

    def check(self, value: Tensor) -> Tensor:
        filled = torch.where(value.isnan(), inside(elements(self.fn, "x"), value, "x"), value)
        return cast(Tensor, self.fn.support.check(filled))


class Incomplete(nn.Module):
    r"""Any likelihood whose elements are independent, to which NaN is an element that nobody knows.

    .. math:: \log p(x \mid z) = \sum_{d \,:\, x_d \text{ is not NaN}} \log p_d(x_d \mid z)

    The exact marginal density of what is seen, so that every bound is one on its evidence; that learns the
    right thing where elements are missing at random (Mattei and Frellsen, arXiv:1812.02633). No NaN reaches a
    density or a gradient. The guide needs an encoder that takes NaN too, `nets.IncompleteEncoder` around one
    of images or vectors. Raw layout, mean and samples are those of the likelihood: samples are complete. A
    table with columns of several kinds has `Mixed`.

    Args:
        likelihood: of complete data.

    Raises:
        ValueError: for a likelihood that takes gaps itself, such as `Mixed`, and as the likelihood raises.
        PairError: for a density that does not factorise over the elements.

    >>> from ppl_vae.likelihoods import Bernoulli
    >>> p = Incomplete(Bernoulli(event_dim=1))(torch.zeros(3))
    >>> p.log_prob(torch.tensor([1.0, 0.0, 1.0])), p.log_prob(torch.tensor([1.0, float("nan"), 1.0]))
    (tensor(-2.0794), tensor(-1.3863))
    """

    takes_missing = True

    def __init__(self, likelihood: nn.Module) -> None:
        super().__init__()
        if takes_missing(likelihood):
            raise ValueError(
                f"likelihoods.{type(likelihood).__name__} takes NaN for missing itself: leave Incomplete out"
            )
        self.likelihood = likelihood
        self._fill = _fill_of(self._inner, self.event_dim)

    @property
    def event_dim(self) -> int | None:
        """Number of dims of one datum."""
        return event_dim_of(self.likelihood)

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        return IncompleteDistribution(self._inner(raw), self._fill)

    def raw_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As the likelihood's."""
        return self._inner.raw_shape(shape)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """As the likelihood's."""
        return self._inner.initial_bias(mean)

    def check(self, x: Tensor) -> None:
        """As the likelihood's, of what is seen."""
        seen = x[~x.isnan()]
        if seen.numel():
            self._inner.check(torch.where(x.isnan(), seen[0], x))

    @property
    def _inner(self) -> Likelihood:
        return cast(Likelihood, self.likelihood)


def _fill_of(likelihood: Likelihood, event_dim: int | None) -> float | None:
    """A number inside the support, found before a step is captured, which may look at no values; None where
    it takes data to tell.
    """
    if event_dim is None:
        return None
    try:
        complete = likelihood(torch.zeros(likelihood.raw_shape((1,) * event_dim)))
    except (ValueError, RuntimeError):  # of a likelihood that wants other shapes
        return None
    return float(inside(elements(complete, "x"), torch.zeros(()), "x"))
