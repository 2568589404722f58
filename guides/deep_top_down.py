"""The guide of a deep ladder: down the model's own path, with evidence from the data at every layer."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.ladder_paths import BottomUpPath, TopDownPath


class DeepTopDown(nn.Module):
    r"""Each layer given x and a draw of all layers above it, zL first: the guide of `models.DeepLadder`.

    .. math:: q(z_l \mid x, z_{>l}) = \mathcal{N}\bigl(\mathrm{posterior}_l(h_l, \mathrm{evidence}(x))\bigr)

    with h the state that runs down the model's path. Model and guide draw in the same order, so every layer's
    KL term has a closed form given the layers above, which `estimators.MeanFieldELBO` takes.

    Args:
        bottom_up: a `nets.BottomUpPath`, such as `nets.ConvBottomUp`.
        path: the model's, `model.path`: shared, not copied.

    Sønderby et al., Ladder Variational Autoencoders, arXiv:1602.02282; Child, arXiv:2011.10650.
    """

    def __init__(self, bottom_up: nn.Module, path: nn.Module) -> None:
        super().__init__()
        self.bottom_up: BottomUpPath = bottom_up  # type: ignore[assignment]
        self.path: TopDownPath = path  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Draw zL, ..., z1 for each of the len(x) data; z1 comes back."""
        path, evidence, state = self.path, self.bottom_up(x), self.path.start()
        with pyro.plate("data", len(x), dim=-1):
            for layer in range(path.num_layers):
                loc, scale, state = path.prior(layer, state)
                loc, scale = self.bottom_up.posterior(layer, state, evidence, loc, scale)
                posterior = dist.Normal(loc, scale).to_event(path.event_dim)
                z = pyro.sample(f"z{path.num_layers - layer}", posterior)
                state = path.after(layer, state, z)
        return z
