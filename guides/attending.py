"""The guide of attend, infer, repeat: count, then look at one object after another."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder, known_latent_dim
from ppl_vae.nets.scale import LocScale, at_least_float32
from ppl_vae.nets.shapes import positive_size
from ppl_vae.nets.spatial_transformer import SpatialTransformer


class Attending(nn.Module):
    r"""A count, and for each object a place given those before it, and what a glimpse of that place shows.

    .. math:: q(n \mid x) = \mathrm{Categorical}(\mathrm{counter}(x)), \qquad
        q(\mathrm{where}_i \mid \cdot) = \mathcal{N}\bigl(\mathrm{head}(h_i)\bigr), \qquad
        q(\mathrm{what}_i \mid \cdot) = \mathcal{N}\bigl(\mathrm{encoder}(
        \mathrm{look}(x, \mathrm{where}_i))\bigr)

    with :math:`h_i = \tanh(W (\mathrm{features}(x), \mathrm{where}_{i-1}, h_{i-1}))` for i up to n. Objects
    beyond n are drawn from the prior, at which their terms of the bound are exactly 0.

    Args:
        counter: from x to logits, (\*batch, max_count + 1).
        features: from x to (\*batch, num_features), with that attribute: `nets.shapes.Flatten(shape)` for
            the pixels themselves.
        encoder: from a glimpse to location and scale of what is there.
        transformer: the model's `nets.SpatialTransformer`.
        max_count: N, the model's.
        hidden: width of h.

    Raises:
        ValueError: for sizes below 1; in `forward` for a counter of another number of logits.

    Eslami et al., Attend, Infer, Repeat, arXiv:1603.08575.
    """

    def __init__(
        self,
        counter: nn.Module,
        features: nn.Module,
        encoder: nn.Module,
        transformer: nn.Module,
        max_count: int = 3,
        hidden: int = 100,
    ) -> None:
        super().__init__()
        self.counter, self.features = counter, features
        self.encoder: LocScaleEncoder = encoder
        self.transformer: SpatialTransformer = transformer  # type: ignore[assignment]
        self.max_count, self.hidden = positive_size("max_count", max_count), positive_size("hidden", hidden)
        self.latent_dim = known_latent_dim(encoder)
        width = getattr(features, "num_features", None)
        if not isinstance(width, int):
            raise ValueError(f"{type(features).__name__} has no num_features, the width of its output")
        self.step = nn.Linear(width + 3 + hidden, hidden)
        self.head = LocScale(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Draw count, where1, what1, ... for each of the len(x) data; the count comes back."""
        logits, seen = at_least_float32(self.counter(x)), self.features(x)
        if logits.shape[-1] != self.max_count + 1:
            raise ValueError(
                f"Attending: the counter gives {logits.shape[-1]} logits, and max_count={self.max_count} "
                f"needs {self.max_count + 1}, one for each count from 0"
            )
        with pyro.plate("data", len(x), dim=-1):
            count = pyro.sample("count", dist.Categorical(logits=logits))
            where, h = seen.new_zeros(3), seen.new_zeros(self.hidden)
            for number in range(1, self.max_count + 1):
                there = (count >= number).unsqueeze(-1)
                h = torch.tanh(self.step(_beside(seen, where, h)))
                where = pyro.sample(f"where{number}", _where(there, *self.head(h)))
                loc, scale = self.encoder(self.transformer.look(x, where))
                pyro.sample(f"what{number}", _where(there, loc, scale))
        return count


def _where(there: Tensor, loc: Tensor, scale: Tensor) -> dist.Distribution:
    """The normal, and the standard one for objects that are not there."""
    return dist.Normal(loc.where(there, 0.0), scale.where(there, 1.0)).to_event(1)


def _beside(*parts: Tensor) -> Tensor:
    """Along the last dim, with leading dims broadcast."""
    lead = torch.broadcast_shapes(*[part.shape[:-1] for part in parts])
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], -1)
