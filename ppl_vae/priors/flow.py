"""The flow prior: a normalising flow, learned together with the rest."""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
from torch import nn

from ppl_vae.nets.shapes import positive_size, positive_sizes
from ppl_vae.transforms.zuko_support import flow_distribution, zuko_flows

Kind = Literal["spline", "affine"]


class Flow(nn.Module):
    r"""A prior that an autoregressive flow f makes of the standard normal, by Zuko.

    .. math:: \log p(z) = \log \mathcal{N}(f(z); 0, I) + \log \lvert \det \partial f / \partial z \rvert

    It starts at f(z) = z. A density costs one pass of each transform's net, a draw one pass for each
    dimension: the way round that training wants. The splines bend space within [-5, 5] and leave it alone
    outside.

    Args:
        latent_dim: the number of latent dimensions.
        kind: "spline" (rational-quadratic, arXiv:1906.04032) or "affine" (arXiv:1705.07057).
        transforms: how many, one after the other.
        hidden: widths of the layers of each transform's net.

    Raises:
        ValueError: for another kind, or sizes below 1.

    Chen et al., Variational Lossy Autoencoder, arXiv:1611.02731, of which this is the learned prior.

    >>> import torch
    >>> Flow(latent_dim=2)().log_prob(torch.zeros(7, 5, 2)).shape
    torch.Size([7, 5])
    """

    def __init__(
        self, latent_dim: int, kind: Kind = "spline", transforms: int = 3, hidden: tuple[int, ...] = (64, 64)
    ) -> None:
        super().__init__()
        if kind not in ("spline", "affine"):
            raise ValueError(f"kind must be 'spline' or 'affine', got {kind!r}")
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.kind = kind
        self.transforms = positive_size("transforms", transforms)
        self.hidden = positive_sizes("hidden", hidden)
        make = zuko_flows().NSF if kind == "spline" else zuko_flows().MAF
        self.flow = make(latent_dim, transforms=transforms, hidden_features=self.hidden)
        for transform in self.flow.transform.transforms:
            # one dimension hangs on no other, and then Zuko has parameters in place of a net
            last = transform.phi if latent_dim == 1 else transform.hyper[-1].parameters()
            for parameter in last:
                nn.init.zeros_(parameter)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return flow_distribution(self.flow())
