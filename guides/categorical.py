"""The categorical guide: a row of one-hot codes."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ppl_vae.guides.paths import Path, Paths
from ppl_vae.nets.contracts import LocScaleEncoder, latent_dim_of
from ppl_vae.nets.shapes import positive_size


class Categorical(nn.Module):
    r"""Independent codes of C values, as one-hot vectors; the prior it belongs to is `priors.Categorical`.

    .. math:: q(z \mid x) = \prod_n \mathrm{Categorical}\bigl(z_n; \mathrm{softmax}(l_n)\bigr), \qquad
        (l, \cdot) = \mathrm{encoder}(x)

    The logits are the encoder's loc, of num_codes times num_values numbers; its scale is not used. Paths as
    in `guides.Bernoulli`.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, num_codes * num_values).
        num_values: C.
        path, temperature, cooling, coldest: as in `guides.Bernoulli`.

    Raises:
        ValueError: for another path, numbers out of range, and an encoder of another size.

    Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144.

    >>> import torch
    >>> from ppl_vae import nets
    >>> Categorical(nets.MLPEncoder((5,), latent_dim=6), num_values=3)(torch.zeros(4, 5)).shape
    torch.Size([4, 2, 3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_values: int,
        path: Path = "none",
        temperature: float = 0.5,
        cooling: float = 0.0,
        coldest: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder
        self.num_values = positive_size("num_values", num_values)
        self.path = path
        self.temperature, self.cooling, self.coldest = temperature, cooling, coldest
        self.paths = Paths(path, temperature, cooling, coldest)
        if (width := latent_dim_of(encoder)) is not None and width % num_values:
            raise ValueError(
                f"the encoder's latent_dim, {width}, is no multiple of num_values={num_values}: it gives the "
                "logits of all codes side by side, num_codes * num_values"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Draw z (num_codes, num_values) for each of the len(x) data."""
        logits, _ = self.encoder(x)
        self.paths.cool()
        with pyro.plate("data", len(x), dim=-1):
            codes = self.paths.one_hot(logits.unflatten(-1, (-1, self.num_values)))
            return pyro.sample("z", codes.to_event(1))
