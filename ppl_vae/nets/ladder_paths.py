"""What a deep ladder asks of its nets: a path down, shared by model and guide, and one up from the data."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, activation_layer, width_factor
from ppl_vae.nets.initialisation import initialise
from ppl_vae.nets.shapes import image_sides, positive_sizes


class TopDownPath(Protocol):
    """What a deep ladder draws along: a state that each layer looks at and adds to, the top layer first.

    Attributes:
        num_layers: L.
        event_dim: how many dims a layer's latent has.
    """

    num_layers: int
    event_dim: int

    def start(self) -> Tensor:
        """The state before the first layer, (*state)."""
        ...

    def prior(self, layer: int, state: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """A layer's location and scale, (*batch, *event), and the state with what goes by its latent."""
        ...

    def after(self, layer: int, state: Tensor, z: Tensor, /) -> Tensor:
        """The state with a layer's latent in it."""
        ...

    def output(self, state: Tensor, /) -> Tensor:
        """The raw output of the likelihood at the last state."""
        ...


class BottomUpPath(Protocol):
    """What a deep ladder's guide sees of the data, and how a layer's posterior comes of it."""

    def __call__(self, x: Tensor, /) -> tuple[Tensor, ...]:
        """The evidence for the layers, from (B, *event)."""
        ...

    def posterior(
        self, layer: int, state: Tensor, evidence: tuple[Tensor, ...], loc: Tensor, scale: Tensor, /
    ) -> tuple[Tensor, Tensor]:
        """The location and the scale of a layer's latent given the state above it and the evidence.

        `loc` and `scale` are the prior's.
        """
        ...


def stages(shape: tuple[int, ...], layers: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sides of the stages from the top, 1 first, and the stage of each layer.

    >>> stages((1, 28, 28), (1, 2, 3))
    ((1, 7, 14), (0, 1, 1, 2, 2, 2))
    """
    sides = (1, *image_sides(shape)[:0:-1])
    layers = positive_sizes("layers", layers, minimum=1)
    if len(layers) != len(sides):
        raise ValueError(
            f"images of shape {tuple(shape)} have stages of the sides {sides}, from the top: layers must "
            f"be as many numbers, got {layers}"
        )
    return sides, tuple(stage for stage, count in enumerate(layers) for _ in range(count))


def channels_of(name: str, channels: tuple[int, ...], sides: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of channels, or ValueError unless there is one for each stage."""
    found = positive_sizes(name, channels, minimum=1)
    if len(found) != len(sides):
        raise ValueError(f"{name} must have a number for each stage, of the sides {sides}, got {found}")
    return found


def bottleneck(width: int, out: int, activation: Activation, gain: float) -> nn.Sequential:
    """Convolutions 1 x 1, 3 x 3 and 1 x 1, narrow between, each after an activation but the first.

    Args:
        width, out: channels that come in and go out.
        activation: see `MLP`.
        gain: factor on the initial weights of the last; 0 for a stack that starts at zero.
    """
    factor, narrow = width_factor(activation), max(width // 2, 1)
    first = nn.Conv2d(width, factor * narrow, kernel_size=1)
    middle = nn.Conv2d(narrow, factor * narrow, kernel_size=3, padding=1)
    last = nn.Conv2d(narrow, out, kernel_size=1)
    for layer in (first, middle):
        initialise(layer, activation, parts=factor)
    initialise(last)
    with torch.no_grad():
        last.weight.mul_(gain)
    return nn.Sequential(
        first, activation_layer(activation, dim=-3), middle, activation_layer(activation, dim=-3), last
    )


class Residual(nn.Module):
    """Layers beside the identity, h + layers(h).

    Args:
        layers: from `(N, channels, height, width)` to the same.
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.layers(h)
        return out
