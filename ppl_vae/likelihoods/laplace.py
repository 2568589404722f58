"""The Laplace likelihood, with a fixed, a learned or a per-output scale."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.likelihoods.location_scale import LocationScale, check_finite
from ppl_vae.likelihoods.raw import compact
from ppl_vae.likelihoods.support import SupportChecked, finite_real


class LaplaceDistribution(SupportChecked, dist.Laplace):
    """`pyro.distributions.Laplace` whose `log_prob` does not repeat the work on a shared scale."""

    support = finite_real

    def check(self, x: Tensor) -> None:
        check_finite("Laplace", x)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        scale = compact(self.scale)
        return torch.addcmul(-torch.log(2 * scale), (value - self.loc).abs(), -1 / scale)


class Laplace(LocationScale):
    r"""Real data with a location per output and a scale that is fixed, learned or per output.

    .. math:: \log p(x \mid z) = \sum_d -\frac{|x_d - m_d|}{s_d} - \log 2 s_d

    Raw layout: the locations m, unconstrained, of the shape of the data; with `scale="per_output"` the
    raw scales follow along the first event dim, `(2C, H, W)`. Support: finite real numbers. The mean is
    m. It is a density: nats can be positive.

    A scale free to reach 0 makes the likelihood unbounded. So a raw scale r becomes
    `positive_scale(r, min_scale, max_scale)`: exp(r) in between, smoothly limited, 1 at r = 0.

    Shi, Siddharth, Paige and Torr, Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
    Generative Models, arXiv:1911.03393 (Laplace likelihoods for images).

    Args:
        scale: a positive number to fix it, "learned" for one learned scale for all outputs, or
            "per_output" for one scale per output from the decoder.
        min_scale: floor of a learned or per-output scale, in the data's units.
        max_scale: cap of a learned or per-output scale.
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.
        num_columns: how many scales a "learned" scale is: one for all outputs, or one for each column of a
            vector.

    Raises:
        ValueError: for a bad option; from `check`, and from `log_prob` when validation is on, for NaN
            and infinity.

    >>> Laplace(scale="per_output").raw_shape((3, 32, 32))
    (6, 32, 32)
    >>> Laplace(scale=0.5, event_dim=1)(torch.zeros(5, 2)).log_prob(torch.ones(5, 2))[0]
    tensor(-4.)
    """

    family = LaplaceDistribution
