"""The bottom-up guide of a hierarchy: a chain of encoders from the data to the top layer."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets import ConvEncoder, MLPEncoder
from ppl_vae.nets.activations import Activation
from ppl_vae.nets.ladder_layers import check_widths


class BottomUp(nn.Module):
    r"""Each layer given a draw of the one below it, z1 first.

    .. math:: q(z \mid x) = q(z_1 \mid x) \prod_{l=2}^{L} q(z_l \mid z_{l-1}), \qquad
        q(z_l \mid z_{l-1}) = \mathcal{N}\bigl(\mathrm{loc}_l, \mathrm{diag}\,\mathrm{scale}_l^2\bigr)

    The guide of the two-layer networks in arXiv:1509.00519. It meets the layers against the order of the
    model, so no KL term has a closed form, and all are sampled.

    Args:
        encoders: L nets to (loc, scale): the first from x, the others from the layer below.

    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, arXiv:1509.00519.
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    @classmethod
    def dense(
        cls,
        shape: tuple[int, ...],
        latent_dims: tuple[int, ...] = (100, 50),
        hidden: tuple[tuple[int, ...], ...] = ((200, 200), (100, 100)),
        activation: Activation = "tanh",
    ) -> BottomUp:
        """Multilayer perceptrons, `hidden[0]` between x and z1: the guide of `LadderVAE.dense`."""
        return cls(dense_encoders(shape, latent_dims, hidden, activation))

    @classmethod
    def convolutional(
        cls,
        shape: tuple[int, ...],
        latent_dims: tuple[int, ...] = (64, 32),
        channels: int = 32,
        num_features: int = 256,
        hidden: tuple[tuple[int, ...], ...] = ((128,),),
        activation: Activation = "relu",
    ) -> BottomUp:
        """A `ConvEncoder` from x to z1, then multilayer perceptrons:
        the guide of `LadderVAE.convolutional`.
        """
        first = ConvEncoder(shape, latent_dims[0], channels, num_features, activation)
        return cls([first, *_dense(latent_dims, hidden, activation)])

    def forward(self, x: Tensor) -> Tensor:
        """Draw z1, ..., zL for each of the len(x) data; zL comes back."""
        below = x
        with pyro.plate("data", len(x), dim=-1):
            for number, encoder in enumerate(self.encoders, start=1):
                loc, scale = encoder(below)
                below = pyro.sample(f"z{number}", dist.Normal(loc, scale).to_event(1))
        return below


def dense_encoders(
    shape: tuple[int, ...],
    latent_dims: tuple[int, ...],
    hidden: tuple[tuple[int, ...], ...],
    activation: Activation,
) -> list[nn.Module]:
    """Multilayer perceptrons from the data up, `hidden[0]` between x and z1."""
    first = MLPEncoder(shape, latent_dims[0], hidden[0], activation)
    return [first, *_dense(latent_dims, hidden[1:], activation)]


def _dense(
    latent_dims: tuple[int, ...], hidden: tuple[tuple[int, ...], ...], activation: Activation
) -> list[nn.Module]:
    check_widths(latent_dims, hidden)
    return [
        MLPEncoder((below,), above, widths, activation)
        for below, above, widths in zip(latent_dims[:-1], latent_dims[1:], hidden, strict=True)
    ]
