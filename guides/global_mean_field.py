"""The mean-field guide over global latents beside an amortised one over the local latent."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets import inverse_positive_scale, positive_scale
from ppl_vae.nets.contracts import LocScaleEncoder


class GlobalMeanField(nn.Module):
    r"""A normal with free parameters for each global weight, an encoder's for each datum's z.

    .. math:: q(W, z \mid x) = \prod_l \mathcal{N}\bigl(W_l; M_l, S_l^2\bigr)
        \prod_i \mathcal{N}\bigl(z_i; \mathrm{loc}(x_i), \mathrm{diag}\,\mathrm{scale}(x_i)^2\bigr)

    The guide of `models.BayesianDecoderVAE`, and of any model with the sites `weight1`, `weight2`, ...
    outside the plate `data`.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale) of z, each (*batch, latent_dim).
        weight_shapes: event shapes of the weights, `model.weight_shapes`.
        data_size: N, as in the model: model and guide must subsample alike.
        initial_scale: where every S starts; the Ms start as a layer's weights do.

    Raises:
        ValueError: for an initial_scale outside (1e-4, 100).

    Kingma and Welling, Auto-Encoding Variational Bayes, appendix F, arXiv:1312.6114.

    >>> import ppl_vae as pv
    >>> from ppl_vae import likelihoods, models, nets
    >>> likelihood = likelihoods.Bernoulli()
    >>> model = models.BayesianDecoderVAE(likelihood, (1, 8, 8), latent_dim=2, data_size=1000)
    >>> guide = GlobalMeanField(nets.MLPEncoder((1, 8, 8), 2), model.weight_shapes, data_size=1000)
    >>> pv.sample(pv.Pair(model, guide, example=(torch.zeros(1, 1, 8, 8),)), 5).value.shape
    torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        encoder: nn.Module,
        weight_shapes: tuple[tuple[int, ...], ...],
        data_size: int,
        initial_scale: float = 0.01,
    ) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder
        self.weight_shapes = tuple(map(tuple, weight_shapes))
        self.data_size = data_size
        self.initial_scale = initial_scale
        raw = inverse_positive_scale(torch.tensor(float(initial_scale)))
        self.loc, self.raw_scale = nn.ParameterList(), nn.ParameterList()
        for shape in self.weight_shapes:
            loc = torch.empty(shape)
            nn.init.xavier_uniform_(loc)
            loc[..., -1] = 0  # the bias
            self.loc.append(nn.Parameter(loc))
            self.raw_scale.append(nn.Parameter(torch.full(shape, raw.item())))

    def forward(self, x: Tensor) -> Tensor:
        """Draw the weights, and z for each of the len(x) data."""
        for number, (loc, raw) in enumerate(zip(self.loc, self.raw_scale, strict=True), start=1):
            normal = dist.Normal(loc, positive_scale(raw))
            pyro.sample(f"weight{number}", normal.to_event(loc.dim()))
        loc, scale = self.encoder(x)
        size = max(self.data_size, len(x))
        with pyro.plate("data", size, subsample=torch.arange(len(x), device=x.device), dim=-1):
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))
