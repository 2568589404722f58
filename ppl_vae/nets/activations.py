"""The activations that nets are built with, by name."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

Activation = Literal["tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "gated"]
"""The name of an activation that the nets take."""
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
"""All of them."""


def activation_layer(activation: str, dim: int = -1) -> nn.Module:
    r"""Make the layer of an activation.

    `gated` is the gated layer of Tomczak and Welling (arXiv:1705.07120), h = (W x + b) * sigmoid(V x + c).
    W and V are two halves of one linear map, so that map must have `width_factor` times the outputs.

    Args:
        activation: one of `ACTIVATIONS`.
        dim: the dimension of the channels, which `gated` halves: -1 for vectors, -3 for images.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.

    >>> activation_layer("gated", dim=-3)
    GLU(dim=-3)
    """
    check_activation(activation)
    if activation == "tanh":
        return nn.Tanh()
    if activation == "relu":
        return nn.ReLU()
    if activation == "leaky_relu":
        return nn.LeakyReLU()
    if activation == "elu":
        return nn.ELU()
    if activation == "gelu":
        return nn.GELU()
    if activation == "silu":
        return nn.SiLU()
    return nn.GLU(dim=dim)


def width_factor(activation: str) -> int:
    """How many outputs of a linear map one unit of this activation takes: 2 for `gated`, else 1."""
    return 2 if activation == "gated" else 1


def check_activation(activation: str) -> None:
    """Raise ValueError, listing the known names, unless the activation is one of them."""
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}: choose one of {', '.join(map(repr, ACTIVATIONS))}"
        )
