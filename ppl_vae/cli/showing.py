"""What of a pair's data and latents can be shown in a picture, and how it is laid out for one."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import constraints

from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.queries.handlers import run, sample_sites
from ppl_vae.queries.site_tensors import laid_out


def shown_and_held(pair: Pair, batch: tuple[Tensor, ...], seed: int) -> tuple[str, list[str]]:
    """The observed site whose values are the data, "" for none, and the others, which are held."""
    with questioning(pair, seed, pair.device):
        sites = sample_sites(run(pair.model, batch))
    values = {name: laid_out(site["value"], site) for name, site in sites.items() if site["is_observed"]}
    # the data are the first argument: the site that has its values, or at least as many
    shown = [name for name, value in values.items() if value.shape == batch[0].shape] or [
        name for name, value in values.items() if value.numel() == batch[0].numel()
    ]
    return shown[0] if shown else "", [name for name in values if name not in shown[:1]]


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a datum of this event shape can be shown: grey or of three colours, or a matrix."""
    return (len(shape) == 3 and shape[0] in (1, 3)) or (len(shape) == 2 and min(shape) > 2)


def as_images(x: Tensor) -> Tensor:
    """(n, C, H, W) of images with a dim of channels or without."""
    return x if x.dim() == 4 else x.unsqueeze(1)


def base_of(support: constraints.Constraint) -> constraints.Constraint:
    """What a constraint says of each number alone."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.real_vector or isinstance(support, type(constraints.real)):
        return constraints.real
    return support
