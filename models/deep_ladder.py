"""The deep ladder: many stochastic layers along one residual path, as in very deep VAEs."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.ladder_paths import TopDownPath


class DeepLadder(nn.Module):
    r"""L stochastic layers zL (the top), ..., z1, each of a state of all above it that runs down a path.

    .. math:: z_l \mid z_{>l} \sim \mathcal{N}\bigl(\mathrm{loc}_l(h_l), \mathrm{scale}_l(h_l)^2\bigr),
        \qquad h_{l-1} = \mathrm{after}_l(h_l, z_l),
        \qquad x \mid z \sim \mathrm{likelihood}(\mathrm{output}(h_0))

    Where `LadderVAE` has a net of its own between any two layers, here each adds to one state, so that
    ten layers and more can be trained. The guide is `guides.DeepTopDown`, which shares the path; the logs
    have the KL of each layer, `plots.layer_kl` draws them, and `fit(skip_norm=...)` leaves out the spikes
    of the gradient that such ladders are known for.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the path's raw output to a distribution over x.
        path: a `nets.TopDownPath`, such as `nets.ConvTopDown`.

    Child, Very Deep VAEs Generalize Autoregressive Models, arXiv:2011.10650.

    >>> from ppl_vae import Pair, guides, likelihoods, nets
    >>> sizes = {"layers": (2, 4, 6), "latent_channels": (16, 4, 2), "channels": 32}
    >>> path = nets.ConvTopDown((1, 28, 28), **sizes)
    >>> guide = guides.DeepTopDown(nets.ConvBottomUp((1, 28, 28), **sizes), path)
    >>> pair = Pair(DeepLadder(likelihoods.Bernoulli(), path), guide)
    """

    def __init__(self, likelihood: nn.Module, path: nn.Module) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.path: TopDownPath = path  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Any:
        """Draw zL, ..., z1 and x for each of the len(x) data."""
        path, state = self.path, self.path.start()
        with pyro.plate("data", len(x), dim=-1):
            for layer in range(path.num_layers):
                loc, scale, state = path.prior(layer, state)
                prior = dist.Normal(loc, scale).to_event(path.event_dim)
                z = pyro.sample(f"z{path.num_layers - layer}", prior)
                state = path.after(layer, state, z)
            return pyro.sample("x", self.likelihood(path.output(state)), obs=x)
