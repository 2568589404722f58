"""The encoder: any trunk, and a head that gives the location and the scale of a latent variable."""

from __future__ import annotations

from torch import Tensor, nn

from ppl_vae.nets.scale import LocScale
from ppl_vae.nets.shapes import positive_size


class Encoder(nn.Module):
    r"""A location and a scale from the features of any trunk.

    .. math:: \mathrm{loc}, \mathrm{scale} = \mathrm{head}(\mathrm{trunk}(x))

    Shapes: `(*batch, *event)` to a pair of `(*batch, latent_dim)`. A guide that needs more than a location
    and a scale puts a head of its own on `encoder.trunk(x)`, which is `(*batch, num_features)`.

    Args:
        trunk: a module from `(*batch, *event)` to `(*batch, num_features)`, for any leading dims.
        num_features: width of the trunk's output.
        latent_dim: dimension of the latent variable.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    Raises:
        ValueError: for sizes below 1, a range of scales without 1 inside, or a trunk whose output has
            another width.

    >>> import torch
    >>> loc, scale = Encoder(nn.Linear(64, 32), num_features=32, latent_dim=2)(torch.zeros(5, 64))
    >>> loc.shape, scale.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        trunk: nn.Module,
        num_features: int,
        latent_dim: int,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        super().__init__()
        self.num_features = positive_size("num_features", num_features)
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.trunk = trunk
        self.head = LocScale(num_features, latent_dim, min_scale, max_scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale, each (*batch, latent_dim), at data x, (*batch, *shape)."""
        loc, scale = self.head(self.trunk(x))
        return loc, scale
