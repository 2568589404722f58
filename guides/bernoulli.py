"""The Bernoulli guide: a vector of bits."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ppl_vae.guides.paths import Path, Paths
from ppl_vae.nets.contracts import LocScaleEncoder


class Bernoulli(nn.Module):
    r"""Independent bits given x; the prior it belongs to is `priors.Bernoulli`.

    .. math:: q(z \mid x) = \prod_j \mathrm{Bernoulli}\bigl(z_j; \sigma(l_j)\bigr), \qquad
        (l, \cdot) = \mathrm{encoder}(x)

    The logits are the encoder's loc; its scale is not used. With path="none" train it under
    `estimators.DisARM`, `REBAR`, `NVIL`, `VIMCO` or `ReweightedWakeSleep`; the other paths give
    a gradient through the draws, to any estimator, and a biased one. `paths.temperature` is a 0-d tensor.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, latent_dim).
        path: of the gradient through a draw: "none", "straight-through", "gumbel-softmax", whose draws are
            relaxed in training mode and the objective no bound, or "straight-through gumbel-softmax".
        temperature: of the relaxation.
        cooling: the share of the temperature that is lost at every step.
        coldest: the temperature at which it stays.

    Raises:
        ValueError: for another path, and numbers out of range.

    Maddison, Mnih and Teh, The Concrete Distribution, arXiv:1611.00712.

    >>> import torch
    >>> from ppl_vae import nets
    >>> Bernoulli(nets.MLPEncoder((5,), latent_dim=3))(torch.zeros(2, 5)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        path: Path = "none",
        temperature: float = 0.5,
        cooling: float = 0.0,
        coldest: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder
        self.path = path
        self.temperature, self.cooling, self.coldest = temperature, cooling, coldest
        self.paths = Paths(path, temperature, cooling, coldest)

    def forward(self, x: Tensor) -> Tensor:
        """Draw z (latent_dim,) for each of the len(x) data."""
        logits, _ = self.encoder(x)
        self.paths.cool()
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.paths.bits(logits).to_event(1))
