"""Activations by name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ppl_vae import nets
from ppl_vae.nets.activations import ACTIVATIONS, activation_layer, width_factor

FUNCTIONS = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "gated": lambda h: h.chunk(2, -1)[0] * torch.sigmoid(h.chunk(2, -1)[1]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_name_is_its_function(name) -> None:
    h = torch.randn(3, 6)
    found = activation_layer(name)(h)
    torch.testing.assert_close(found, FUNCTIONS[name](h))
    assert found.shape[-1] * width_factor(name) == 6


@pytest.mark.parametrize(
    "build",
    [
        lambda name: activation_layer(name),
        lambda name: nets.MLP(4, activation=name),
        lambda name: nets.MLP(4, hidden=(), out_features=2, activation=name),
        lambda name: nets.MLPEncoder((4,), 2, activation=name),
        lambda name: nets.MLPDecoder(2, (4,), activation=name),
        lambda name: nets.ConvEncoder((1, 8, 8), 2, activation=name),
        lambda name: nets.ConvDecoder(2, (1, 8, 8), activation=name),
        lambda name: nets.ResidualEncoder((1, 8, 8), 2, activation=name),
        lambda name: nets.ResidualDecoder(2, (1, 8, 8), activation=name),
    ],
)
def test_an_unknown_name_lists_the_known_ones(build) -> None:
    with pytest.raises(ValueError, match="unknown activation 'sigmund'") as raised:
        build("sigmund")
    assert all(repr(name) in str(raised.value) for name in ACTIVATIONS)
