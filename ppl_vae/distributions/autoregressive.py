"""Images whose pixels come one after the other, each given those before it."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae.distributions.pixel_order import Anew, Canvas, HasCanvas, RawOutputs


class Autoregressive(dist.TorchDistribution):
    r"""An image whose pixels, and the colours of each, are drawn one after the other.

    .. math:: \log p(x) = \sum_d \log p\bigl(x_d \mid x_{<d}, \mathrm{context}\bigr), \qquad
        p(x_d \mid x_{<d}) = \mathrm{likelihood}(\mathrm{net}(x, \mathrm{context}))_d

    The density is one pass of the net. A draw is one step for each pixel and colour, with the net's canvas
    where it has one, else a pass each; in eval mode what it was drawn from is then held against a pass over
    the finished image. There is no mean in closed form, and the elements are not independent.

    Values with a finite range enter the net as numbers from -1 to 1, others as they are.

    Args:
        net: the raw outputs, such as `nets.PixelCNN`.
        likelihood: from raw outputs to independent elements, one of `ppl_vae.likelihoods` for images.
        context: (\*batch, channels, height, width).

    Raises:
        RuntimeError: from `sample`, for a net in which a pixel's raw output depends on itself or later ones.

    van den Oord, Kalchbrenner and Kavukcuoglu, Pixel Recurrent Neural Networks, arXiv:1601.06759.

    >>> from ppl_vae import likelihoods, nets
    >>> net = nets.PixelCNN((1, 3, 3), raw_channels=1, channels=4, dilations=(1,))
    >>> p = Autoregressive(net, likelihoods.Bernoulli(), torch.zeros(5, 1, 3, 3))
    >>> p.log_prob(p.sample()).shape
    torch.Size([5])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, net: RawOutputs, likelihood: Any, context: Tensor, validate_args: bool | None = None
    ) -> None:
        self.net, self.likelihood, self.context = net, likelihood, context
        # independent elements of the same shape and support
        self._alike = likelihood(context.new_zeros(net.raw_channels, *context.shape[-2:]))
        super().__init__(context.shape[:-3], self._alike.event_shape, validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        """That of the elements."""
        return self._alike.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Autoregressive:
        """The same distributions for a larger batch shape."""
        context = self.context.expand(*batch_shape, *self.context.shape[-3:])
        return Autoregressive(self.net, self.likelihood, context, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """(\\*batch,) nats."""
        if self._validate_args:
            self.likelihood.check(value)
        raw = self.net(self._seen(value), self.context)
        return self.likelihood(raw).log_prob(value)  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (\\*sample_shape, \\*batch, colours, height, width)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        colours, height, width = shape[-3:]
        lead, event = shape[:-3], self.context.shape[-3:]
        context = self.context.expand(*lead, *event).reshape(lead.numel(), *event)
        canvas: Canvas = (
            self.net.canvas(context) if isinstance(self.net, HasCanvas) else Anew(self.net, context, colours)
        )
        x: Tensor | None = None
        found = context.new_zeros(len(context), self.net.raw_channels, height, width)
        for row in range(height):
            for column in range(width):
                for colour in range(colours):
                    raw = canvas.raw(row, column)
                    drawn = self.likelihood(raw).sample()[:, colour, 0, 0]
                    if x is None:
                        x = drawn.new_zeros(len(context), *shape[-3:])
                    x[:, colour, row, column] = drawn
                    put = self._seen(x[..., row, column])
                    put[:, colour + 1 :] = 0
                    canvas.put(row, column, put)
                    found[:, colour::colours, row, column] = raw[:, colour::colours, 0, 0].to(found)
        assert x is not None
        self._require_the_same(found, x, context)
        return x.reshape(shape)

    def _seen(self, value: Tensor) -> Tensor:
        """A value as the net sees it."""
        support: Any = self._alike.support
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        low, high = (getattr(support, end, None) for end in ("lower_bound", "upper_bound"))
        value = value.to(self.context.dtype)
        return value.clone() if low is None or high is None else (2 * value - (low + high)) / (high - low)

    def _require_the_same(self, found: Tensor, x: Tensor, context: Tensor) -> None:
        """Raise RuntimeError where an image was drawn from other raw outputs than its density is made of."""
        if getattr(self.net, "training", False):
            return  # dropout makes others every time
        again = self.net(self._seen(x), context).to(found)
        # on a GPU a convolution may round its factors to ten bits
        rough = 0.05 if found.is_cuda else 10 * torch.finfo(found.dtype).eps ** 0.5
        if not torch.allclose(found, again, rtol=rough, atol=rough, equal_nan=True):
            raise RuntimeError(
                f"{type(self.net).__name__}: raw outputs of drawn images are others in one pass over the "
                f"finished ones, by {float((found - again).abs().max()):.3g}: what stands at a pixel and "
                "colour must not depend on that one or on later ones, or its log_prob is no density"
            )
