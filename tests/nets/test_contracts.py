"""What a net says of itself is found wherever a module keeps it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae import nets
from ppl_vae.nets.contracts import latent_dim_of, output_bias_of


class Shifted(nn.Module):
    """Its bias is a parameter, which Python finds by the module's `__getattr__` alone."""

    def __init__(self) -> None:
        super().__init__()
        self.output_bias = nn.Parameter(torch.ones(3))
        self.latent_dim = 3

    def forward(self, z):
        return z + self.output_bias


class Around(nn.Module):
    """Gives what it lacks itself from what is inside, as `torch.compile` does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        return super().__getattr__(name) if name == "inner" else getattr(self.inner, name)


@pytest.mark.parametrize("decoder", [Shifted(), Around(Shifted()), nets.MLPDecoder(3, (3,), ())])
def test_a_decoder_says_its_size_and_its_bias(decoder):
    assert latent_dim_of(decoder) == 3
    assert output_bias_of(decoder).shape == (3,)


def test_what_says_nothing_is_none():
    assert latent_dim_of(nn.Linear(2, 2)) is None
    assert output_bias_of(nn.Linear(2, 2)) is None
    silent = Shifted()
    silent.output_bias = None
    assert output_bias_of(silent) is None
