"""Discrete draws made of noise: the draw, the noise, and how it moves with the logits given the draw."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Bernoulli, OneHotCategorical

from ppl_vae.core.sites import data_frame
from ppl_vae.distributions.bits import corner, gumbel_like, linear, logistic_like


@dataclass(frozen=True)
class Noisy:
    r"""A site's draw as a threshold of its logits and noise, H(z) with z = l + noise.

    Bits are 1 where z > 0, with logistic noise; one-hot vectors are where z is largest, with Gumbel noise.

    Attributes:
        logits: l, of the shape of the draw; with a gradient.
        z: of the same shape, without one.
        bits: whether the draw is of bits; else one-hot vectors.
    """

    logits: Tensor
    z: Tensor
    bits: bool

    @property
    def value(self) -> Tensor:
        """The draw."""
        return (self.z > 0).to(self.z) if self.bits else corner(self.z)

    def relaxed(self, z: Tensor, temperature: Tensor | float) -> Tensor:
        """Between 0 and 1, and closer to the draw the colder it is; differentiable by z."""
        return torch.sigmoid(z / temperature) if self.bits else torch.softmax(z / temperature, -1)

    @property
    def score(self) -> Tensor:
        """The gradient of the draw's log-probability by l."""
        probability = self.logits.sigmoid() if self.bits else self.logits.softmax(-1)
        return (self.value - probability).detach()

    def moved(self, gradient: Tensor) -> Tensor:
        r"""What l does to z given the draw, times a gradient by z.

        Given the draw, z is a function of l and of uniform noise v, whose quantiles these are (Tucker et al.,
        appendix); v is what makes it the z that there is.

        Args:
            gradient: by z, of z's shape; the result has its gradient.
        """
        logits = self.logits.detach()
        if self.bits:
            # z = +-softplus(logit v + softplus(+-l)): the slope by l in closed form
            away = -(-self.z.abs()).expm1()
            return gradient * away * torch.where(self.z > 0, logits, -logits).sigmoid()
        with torch.enable_grad():
            leaf = logits.clone().requires_grad_()
            own = corner(self.z)
            top = (self.z * own).sum(-1, keepdim=True)
            # the largest is Gumbel at logsumexp(l); the others are Gumbels cut off there
            largest = top + (leaf.logsumexp(-1, keepdim=True) - logits.logsumexp(-1, keepdim=True))
            gap = (top - self.z).clamp_min(torch.finfo(self.z.dtype).eps)
            noise = -self.z + (-(-gap).exp()).log1p() + logits
            others = -torch.logaddexp(noise - leaf, -largest)
            z = torch.where(own > 0, largest, others)
            # linear in the gradient, through which a network's own gradient goes on
            moved: Tensor = torch.autograd.grad(z, leaf, gradient, create_graph=gradient.requires_grad)[0]
        return moved


class DrawNoisily(Messenger):
    """Draws the guide's bits and one-hot vectors inside the `data` plate by noise, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[str, Noisy] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or data_frame(msg) is None:
            return
        if (noisy := noisy_draw(msg["fn"])) is not None:
            self.drawn[msg["name"]] = noisy
            msg["value"], msg["done"] = noisy.value, True


class RunRelaxed(Messenger):
    """A run of both programs where some bits and one-hot vectors are given, and those after them relaxed.

    Densities go on in a straight line between the values, so that they are smooth in what is relaxed.

    Args:
        sites: all that may be relaxed.
        given: values by site.
        temperature: of the others.
    """

    def __init__(
        self, sites: Collection[str], given: Mapping[str, Tensor], temperature: Tensor | float
    ) -> None:
        super().__init__()
        self.sites, self.given, self.temperature = sites, given, temperature

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.sites:
            return
        if not msg["done"] and not msg["is_observed"]:
            value = self.given.get(msg["name"])
            if value is None:
                noisy = noisy_draw(msg["fn"])
                assert noisy is not None  # since it was one of the sites
                value = noisy.relaxed(noisy.logits + (noisy.z - noisy.logits.detach()), self.temperature)
            msg["value"], msg["done"] = value, True
        msg["fn"] = linear(msg["fn"])


def noisy_draw(fn: Any) -> Noisy | None:
    """A draw by noise of bits or one-hot vectors without a path of their own; None of anything else."""
    if getattr(fn, "has_rsample", False):
        return None
    base = fn
    while hasattr(base, "base_dist"):
        base = base.base_dist
    if not isinstance(base, Bernoulli | OneHotCategorical):
        return None
    logits = base.logits.expand(fn.batch_shape + fn.event_shape)
    bits = isinstance(base, Bernoulli)
    with torch.no_grad():
        z = logits + (logistic_like(logits) if bits else gumbel_like(logits))
    return Noisy(logits, z, bits)
