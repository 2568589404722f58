"""Attend, infer, repeat: pictures of several objects, of which each picture has its own number."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.likelihoods.contract import Likelihood
from ppl_vae.nets.contracts import Decoder, require_latent_dim
from ppl_vae.nets.shapes import positive_size
from ppl_vae.nets.spatial_transformer import SpatialTransformer


class AttendInferRepeat(nn.Module):
    r"""Up to N objects on a canvas: how many there are, and where and what each of them is.

    .. math:: n \sim \mathrm{Categorical}(0, \dots, N), \qquad
        \mathrm{where}_i, \mathrm{what}_i \sim \mathcal{N}(0, I), \qquad i = 1, \dots, N

    .. math:: x \sim \mathrm{likelihood}\Bigl(b + \sum_{i \le n} \mathrm{place}\bigl(
        \mathrm{softplus}(\mathrm{decoder}(\mathrm{what}_i) + a), \mathrm{where}_i\bigr)\Bigr)

    The sites are `count`, and `where1`, `what1`, ... for every object that could be there; those that are
    not are never seen, and `guides.Attending` draws them from their prior, so that they cost nothing.
    Objects only add to the raw output: to the mean of a normal likelihood, to the logits of a Bernoulli one.
    The count is finite: `estimators.EnumeratedELBO` sums over it, the score function's estimators draw it.

    Args:
        likelihood: a `likelihoods.Likelihood` whose raw output has the shape of the data.
        decoder: a `nets.Decoder` of one object, from what_i, (\*batch, latent_dim), to a glimpse.
        transformer: the `nets.SpatialTransformer`, the guide's too.
        latent_dim: of what_i.
        max_count: N.
        background: the first value of b, a number that is learned.
        faintness: -a. Objects that start bright, and in wrong places, are soon counted out, and what is never
            there does not learn; faint ones are put in their places first.

    Raises:
        ValueError: for a likelihood of another raw shape, a decoder of another latent_dim, or an N below 1.

    Eslami et al., Attend, Infer, Repeat, arXiv:1603.08575.

    >>> from ppl_vae import Pair, guides, likelihoods, nets
    >>> look = nets.SpatialTransformer((1, 20, 20), (1, 8, 8))
    >>> decoder = nets.MLPDecoder(latent_dim=5, shape=(1, 8, 8))
    >>> model = AttendInferRepeat(likelihoods.Gaussian(scale=0.3), decoder, look, latent_dim=5)
    >>> what, flat = nets.MLPEncoder((1, 8, 8), latent_dim=5), nets.shapes.Flatten((1, 20, 20))
    >>> count = nn.Sequential(flat, nets.MLP(400, hidden=(50,), out_features=4))
    >>> pair = Pair(model, guides.Attending(count, flat, what, look, max_count=3))
    """

    def __init__(
        self,
        likelihood: nn.Module,
        decoder: nn.Module,
        transformer: nn.Module,
        latent_dim: int,
        max_count: int = 3,
        background: float = 0.0,
        faintness: float = 3.0,
    ) -> None:
        super().__init__()
        self.likelihood: Likelihood = likelihood  # type: ignore[assignment]
        self.decoder: Decoder = decoder
        self.transformer: SpatialTransformer = transformer  # type: ignore[assignment]
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.max_count = positive_size("max_count", max_count)
        self.background, self.faintness = background, faintness
        require_latent_dim("decoder", decoder, latent_dim)
        shape = self.transformer.shape
        if tuple(self.likelihood.raw_shape(shape)) != shape:
            raise ValueError(
                f"AttendInferRepeat: {type(likelihood).__name__} takes a raw output of shape "
                f"{tuple(self.likelihood.raw_shape(shape))} for a canvas of shape {shape}, to which no "
                "objects can be added: take one with a number for each pixel, such as Bernoulli() or "
                "Gaussian(scale=0.3)"
            )
        self.level = nn.Parameter(torch.tensor(float(background)))
        self.logits = nn.Parameter(torch.zeros(max_count + 1))

    def forward(self, x: Tensor) -> Any:
        """Draw count (), where1 (3,), what1 (latent_dim,), ... and x for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            count = pyro.sample("count", dist.Categorical(logits=self.logits))
            raw = self.level
            for number in range(1, self.max_count + 1):
                where = pyro.sample(f"where{number}", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
                plain = dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)
                what = pyro.sample(f"what{number}", plain)
                one = self.transformer.place(softplus(self.decoder(what) - self.faintness), where)
                raw = raw + one * (count >= number)[..., None, None, None]
            return pyro.sample("x", self.likelihood(raw), obs=x)
