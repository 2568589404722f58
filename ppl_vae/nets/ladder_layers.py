"""The nets between the layers of a ladder: how many, how wide, and what each sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import Activation
from ppl_vae.nets.contracts import latent_dim_of
from ppl_vae.nets.mlp import MLPEncoder


def require_layers(
    decoder: nn.Module, layers: nn.ModuleList, latent_dims: tuple[int, ...], skip: bool = False
) -> None:
    """Raise ValueError for another number of nets than between the layers, or a decoder of another size."""
    if len(layers) != len(latent_dims) - 1:
        raise ValueError(
            f"{len(latent_dims)} latent layers {latent_dims} need "
            f"{len(latent_dims) - 1} nets between them, got {len(layers)}"
        )
    width = input_width(latent_dims, 0, skip)
    if (built_for := latent_dim_of(decoder)) not in (None, width):
        raise ValueError(
            f"the decoder was built for latent_dim={built_for}, but meets {width} latent "
            f"dimensions: latent_dims={latent_dims}, skip={skip}"
        )


def side_by_side(z: Tensor, above: Tensor) -> Tensor:
    """A layer and what is above it, (*batch, both widths);
    one that a question holds fixed has fewer leading dims.
    """
    lead = torch.broadcast_shapes(z.shape[:-1], above.shape[:-1])
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in (z, above)], -1)


def input_width(latent_dims: tuple[int, ...], number: int, skip: bool) -> int:
    """The input dimensions of the net below z_{number + 1}: that layer's,
    or with `skip` all from there up.
    """
    return sum(latent_dims[number:]) if skip else latent_dims[number]


def dense_layers(
    latent_dims: tuple[int, ...],
    hidden: tuple[tuple[int, ...], ...],
    skip: bool,
    activation: Activation,
) -> list[nn.Module]:
    """The nets between the layers: `hidden[l]` holds the widths of the one between z_{l+2} and z_{l+1}."""
    check_widths(latent_dims, hidden)
    return [
        MLPEncoder((input_width(latent_dims, number + 1, skip),), latent_dims[number], widths, activation)
        for number, widths in enumerate(hidden)
    ]


def check_widths(latent_dims: tuple[int, ...], hidden: tuple[tuple[int, ...], ...]) -> None:
    """Raise ValueError unless there are hidden widths for each net between two layers."""
    if len(hidden) != len(latent_dims) - 1:
        raise ValueError(
            f"{len(latent_dims)} latent layers {tuple(latent_dims)} need hidden widths for "
            f"{len(latent_dims) - 1} nets between them, got {hidden}"
        )
