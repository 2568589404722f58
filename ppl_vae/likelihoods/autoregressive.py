"""The autoregressive likelihood: any other of images, whose pixels come one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.distributions.autoregressive import Autoregressive as Distribution
from ppl_vae.likelihoods.contract import Likelihood, event_dim_of
from ppl_vae.likelihoods.raw import stacked_shape


class Autoregressive(nn.Module):
    r"""Pixels one after the other: the elements of another likelihood, each given those before it.

    .. math:: \log p(x \mid z) = \sum_d \log p(x_d \mid x_{<d}, z), \qquad
        \mathrm{raw} = \mathrm{net}(x, \mathrm{decoder}(z))

    The decoder's output is the net's context. With `nets.PixelCNN` that holds the raw output of `likelihood`
    first, to which the net adds what the pixels before tell.

    Raw layout: `(net.context_channels, H, W)`. The support is that of `likelihood`. There is no mean in
    closed form: questions show the draw itself, and those that need independent elements (`observed=`,
    `pv.impute`, `pv.compress`) or a mean with a gradient (`pv.optimise`) refuse by the site's name. A draw
    takes a step for each pixel and colour.

    A net that sees enough of the image may leave the latents nothing to say (posterior collapse): see
    `kl.FreeBits`, and the net's reach.

    Chen et al., Variational Lossy Autoencoder, arXiv:1611.02731; Gulrajani et al., PixelVAE,
    arXiv:1611.05013.

    Args:
        likelihood: of independent elements with three event dims: `Bernoulli()`, `Categorical(256)`,
            `DiscretisedLogisticMixture()`, ...
        net: from x and the context to raw outputs, `nets.PixelCNN(shape, likelihood.raw_shape(shape)[0])`.

    Raises:
        ValueError: for a likelihood of another number of dims, a net that does not say its `raw_channels`, or
            has another number of them or another shape than the data.

    >>> from ppl_vae import likelihoods, nets
    >>> elements = likelihoods.Bernoulli()
    >>> likelihood = Autoregressive(elements, nets.PixelCNN((1, 8, 8), raw_channels=1, context_channels=4))
    >>> likelihood.raw_shape((1, 8, 8))
    (4, 8, 8)
    >>> likelihood(torch.zeros(5, 4, 8, 8)).log_prob(torch.ones(5, 1, 8, 8)).shape
    torch.Size([5])
    """

    event_dim = 3

    def __init__(self, likelihood: nn.Module, net: nn.Module) -> None:
        super().__init__()
        if event_dim_of(likelihood) not in (None, 3):
            raise ValueError(
                "likelihoods.Autoregressive: pixels are of images (colours, height, width), and "
                f"{type(likelihood).__name__} has event_dim={event_dim_of(likelihood)}: build it with "
                "event_dim=3"
            )
        if not isinstance(getattr(net, "raw_channels", None), int):
            raise ValueError(
                f"likelihoods.Autoregressive: {type(net).__name__} must say how many channels its raw output "
                "has: set self.raw_channels, as nets.PixelCNN does"
            )
        self.likelihood: Likelihood = cast(Any, likelihood)
        self.net: Any = net

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        if raw.dim() < 3:
            raise ValueError(
                f"likelihoods.Autoregressive: raw output of shape {tuple(raw.shape)} has fewer dims than "
                "event_dim=3"
            )
        return Distribution(self.net, self.likelihood, raw)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The event shape of the net's context for data of event shape `shape`."""
        stacked_shape("Autoregressive", shape, 1, 3)
        built, wanted = tuple(getattr(self.net, "shape", shape)), tuple(shape)
        channels = self.likelihood.raw_shape(wanted)[0]
        if built != wanted or self.net.raw_channels != channels:
            raise ValueError(
                f"likelihoods.Autoregressive: the net was built for data of shape {built} and "
                f"{self.net.raw_channels} raw channels: build it for {wanted} and {channels}"
            )
        given = getattr(self.net, "context_channels", None)
        return (given or channels, *wanted[1:])

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The bias of `likelihood`, whose mean is then the data's while the net adds nothing, and zeros."""
        bias = self.likelihood.initial_bias(mean)
        more = self.raw_shape(mean.shape)[0] - len(bias)
        return torch.cat([bias, bias.new_zeros(more, *bias.shape[1:])])

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the values outside the support of `likelihood`."""
        self.likelihood.check(x)
