"""Bits and one-hot vectors whose draws may have a path, and whose log-density goes on between the values."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch import Independent as PyroIndependent
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions import Independent
from torch.nn.functional import one_hot


class Bits(dist.Bernoulli):
    r"""Bernoulli, whose log-density is defined from 0 to 1, on the straight line between its two values.

    .. math:: \log p(z) = z \log \sigma(l) + (1 - z) \log \sigma(-l), \qquad 0 \le z \le 1

    At 0 and 1 it is the Bernoulli's. Relaxed draws of a guide are judged by it; its support is still 0 or 1.
    """

    def _validate_sample(self, value: Tensor) -> None:
        super()._validate_sample(torch.where((value >= 0) & (value <= 1), torch.zeros_like(value), value))


class OneHot(dist.OneHotCategorical):
    r"""OneHotCategorical, whose log-density is defined on the whole simplex, linear in the vector.

    .. math:: \log p(z) = \sum_c z_c \log \pi_c, \qquad z_c \ge 0, \quad \sum_c z_c = 1
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """(\\*batch,) from (\\*batch, C)."""
        if self._validate_args:
            self._validate_sample(value)
        logits = self.logits
        # 0 times minus infinity is no number, and a value that cannot be is 0 nearly always
        term: Tensor = (value * logits.clamp_min(torch.finfo(logits.dtype).min)).sum(-1)
        return term

    def _validate_sample(self, value: Tensor) -> None:
        inside = (value >= 0).all(-1, keepdim=True) & ((value.sum(-1, keepdim=True) - 1).abs() < 1e-4)
        corner = one_hot(value.argmax(-1), value.shape[-1]).to(value)
        super()._validate_sample(torch.where(inside, corner, value))


class _Path:
    """Draws with a gradient to the logits, mixed into `Bits` or `OneHot`."""

    has_rsample = True
    temperature: Tensor | None
    hard: bool

    def __init__(
        self, logits: Tensor, temperature: Tensor | None, hard: bool, validate_args: bool | None = None
    ) -> None:
        self.temperature, self.hard = temperature, hard
        super().__init__(logits=logits, validate_args=validate_args)  # type: ignore[call-arg]

    def expand(self: Any, batch_shape: Any, _instance: Any = None) -> Any:
        logits = self.logits.expand(torch.Size(batch_shape) + self.event_shape)
        return type(self)(logits, self.temperature, self.hard, validate_args=self._validate_args)

    def rsample(self: Any, sample_shape: Any = ()) -> Tensor:
        noisy = self._noisy(self.logits.expand(self._extended_shape(torch.Size(sample_shape))))
        soft = self.probs.expand(noisy.shape)
        if self.temperature is not None:
            soft = self._squashed(noisy / self.temperature)
        return _through(self._rounded(noisy), soft) if self.hard else soft


class PathBits(_Path, Bits):
    """`Bits` whose draws carry a gradient to the logits.

    Args:
        logits: (\\*batch,).
        temperature: a 0-d tensor, of the relaxation (arXiv:1611.00712); None for a gradient as if the draw
            were its probability (straight-through, arXiv:1308.3432).
        hard: draws are 0 or 1, and the relaxation is in their gradient alone.
    """

    def _noisy(self, logits: Tensor) -> Tensor:
        return logits + logistic_like(logits)

    def _squashed(self, values: Tensor) -> Tensor:
        return torch.sigmoid(values)

    def _rounded(self, noisy: Tensor) -> Tensor:
        return (noisy > 0).to(noisy)


class PathOneHot(_Path, OneHot):
    """`OneHot` whose draws carry a gradient to the logits, (\\*batch, C); arguments as of `PathBits`."""

    def _noisy(self, logits: Tensor) -> Tensor:
        return logits + gumbel_like(logits)

    def _squashed(self, values: Tensor) -> Tensor:
        return torch.softmax(values, -1)

    def _rounded(self, noisy: Tensor) -> Tensor:
        return corner(noisy)


def corner(values: Tensor) -> Tensor:
    """The one-hot vector at the largest of the last dim."""
    # not torch's one_hot, which looks at the values, as a captured step cannot
    places = torch.arange(values.shape[-1], device=values.device)
    return (values.argmax(-1, keepdim=True) == places).to(values.dtype)


def logistic_like(values: Tensor) -> Tensor:
    """Standard logistic noise of the shape of `values`: positive with logits l added has the odds e^l."""
    uniform = _uniform_like(values)
    return uniform.log() - (-uniform).log1p()


def gumbel_like(values: Tensor) -> Tensor:
    """Standard Gumbel noise of the shape of `values`: the largest with logits added is a draw of them."""
    return -(-_uniform_like(values).log()).log()


def linear(fn: Any) -> Any:
    """A distribution of bits or one-hot vectors, within `to_event`, `expand` and `mask`, as `Bits` and
    `OneHot` have it between its values; any other as it is.
    """
    if isinstance(fn, MaskedDistribution):
        return MaskedDistribution(linear(fn.base_dist), fn._mask)
    if isinstance(fn, ExpandedDistribution):
        return ExpandedDistribution(linear(fn.base_dist), fn.batch_shape)
    if isinstance(fn, Independent):
        return PyroIndependent(linear(fn.base_dist), fn.reinterpreted_batch_ndims)
    if isinstance(fn, torch.distributions.OneHotCategorical) and not isinstance(fn, OneHot):
        return OneHot(logits=fn.logits)
    if isinstance(fn, torch.distributions.Bernoulli) and not isinstance(fn, Bits):
        return Bits(logits=fn.logits)
    return fn


def _through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of the one with the gradient of the other; soft - soft is zero, without rounding."""
    return hard.detach() + (soft - soft.detach())


def _uniform_like(values: Tensor) -> Tensor:
    info = torch.finfo(values.dtype)
    return torch.rand_like(values).clamp(info.tiny, 1 - info.eps)
