"""The guide of a sigmoid belief network: layers of bits, from the data up."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from ppl_vae.guides.bottom_up import dense_encoders
from ppl_vae.guides.paths import Path, Paths
from ppl_vae.nets.activations import Activation


class BernoulliLayers(nn.Module):
    r"""Layers of bits, each given a draw of the one below it, z1 first; for `models.SigmoidBeliefNetwork`.

    .. math:: q(z \mid x) = q(z_1 \mid x) \prod_{l=2}^{L} q(z_l \mid z_{l-1}), \qquad
        q(z_{lj} \mid z_{l-1}) = \mathrm{Bernoulli}\bigl(\sigma(\mathrm{loc}_{lj})\bigr)

    Args:
        encoders: L nets to (loc, scale), of which the loc is used: the first from x, the others from the
            layer below.
        path, temperature, cooling, coldest: as in `guides.Bernoulli`, one temperature for all layers.

    Raises:
        ValueError: for another path, and numbers out of range.

    Mnih and Gregor, Neural Variational Inference and Learning, arXiv:1402.0030.
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        path: Path = "none",
        temperature: float = 0.5,
        cooling: float = 0.0,
        coldest: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.path = path
        self.temperature, self.cooling, self.coldest = temperature, cooling, coldest
        self.paths = Paths(path, temperature, cooling, coldest)

    @classmethod
    def dense(
        cls,
        shape: tuple[int, ...],
        latent_dims: tuple[int, ...] = (200, 200),
        hidden: tuple[tuple[int, ...], ...] = ((), ()),
        path: Path = "none",
        temperature: float = 0.5,
        activation: Activation = "tanh",
    ) -> BernoulliLayers:
        """Multilayer perceptrons, `hidden[0]` between x and z1; linear maps by default."""
        return cls(dense_encoders(shape, latent_dims, hidden, activation), path, temperature)

    def forward(self, x: Tensor) -> Tensor:
        """Draw z1, ..., zL for each of the len(x) data; zL comes back."""
        self.paths.cool()
        below = x
        with pyro.plate("data", len(x), dim=-1):
            for number, encoder in enumerate(self.encoders, start=1):
                logits, _ = encoder(below)
                below = pyro.sample(f"z{number}", self.paths.bits(logits).to_event(1))
        return below
