"""Initial weights and the output bias from the data mean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ppl_vae import likelihoods, nets
from ppl_vae.nets import centre_output, initialise
from tests.conftest import SIGMAS


class Logits(nn.Module):
    """A stand-in for a likelihood: the mean is sigmoid(raw)."""

    def initial_bias(self, mean: torch.Tensor) -> torch.Tensor:
        return torch.logit(mean.clamp(0.01, 0.99))


def assert_uniform(weight: torch.Tensor, bound: float) -> None:
    """Mean 0, variance bound^2 / 3, and nothing beyond the bound: the first two within their errors."""
    weight = weight.detach().double().flatten()
    count = len(weight)
    assert weight.abs().max() <= bound * (1 + 1e-6)
    assert weight.mean().abs() < SIGMAS * bound / math.sqrt(3 * count)
    # The variance of w^2 for w uniform in (-b, b) is 4 b^4 / 45.
    error = math.sqrt(4 / 45 / count) * bound**2
    assert abs(weight.square().mean() - bound**2 / 3) < SIGMAS * error


@pytest.mark.parametrize("activation", ["tanh", None])
def test_glorot(activation) -> None:
    layer = nn.Linear(300, 200)
    initialise(layer, activation)
    assert_uniform(layer.weight, math.sqrt(6 / (300 + 200)))
    assert layer.bias.abs().max() == 0


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu"])
def test_kaiming(activation) -> None:
    layer = nn.Linear(300, 200)
    initialise(layer, activation)
    assert_uniform(layer.weight, math.sqrt(6 / 300))
    assert layer.bias.abs().max() == 0


def test_a_gated_layer_is_two_glorot_layers() -> None:
    mlp = nets.MLP(300, hidden=(200,), activation="gated")
    for half in mlp.layers[0].weight.chunk(2):
        assert_uniform(half, math.sqrt(6 / (300 + 200)))


def test_every_layer_of_an_mlp_is_drawn_for_what_follows_it() -> None:
    decoder = nets.MLPDecoder(50, (1, 14, 14), hidden=(100, 200), activation="relu")
    first, _, second, _, last = decoder.mlp.layers
    assert_uniform(first.weight, math.sqrt(6 / 50))
    assert_uniform(second.weight, math.sqrt(6 / 100))
    assert_uniform(last.weight, math.sqrt(6 / (200 + 196)))


def test_convolutions_count_the_inputs_that_reach_an_output() -> None:
    down = nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1)
    initialise(down, "relu")
    assert_uniform(down.weight, math.sqrt(6 / (16 * 16)))
    initialise(down, "tanh")
    assert_uniform(down.weight, math.sqrt(6 / (16 * 16 + 32 * 16 / 4)))
    up = nn.ConvTranspose2d(32, 16, kernel_size=4, stride=2, padding=1)
    initialise(up, "relu")
    assert_uniform(up.weight, math.sqrt(6 / (32 * 16 / 4)))
    initialise(up, "tanh")
    assert_uniform(up.weight, math.sqrt(6 / (32 * 16 / 4 + 16 * 16)))


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_rectified_convolution_keeps_the_second_moment(layer) -> None:
    # E[relu(h)^2] = E[h^2] / 2 for symmetric h, and Kaiming's variance is twice 1 / fan_in, so unit input
    # gives E[relu(h)^2] = 1. The mean over 64 independent filters has a relative error near sqrt(2 / 64).
    conv = layer(64, 64, kernel_size=4, stride=2, padding=1)
    initialise(conv, "relu")
    h = conv(torch.randn(8, 64, 16, 16))[..., 2:-2, 2:-2].relu()
    assert h.square().mean().item() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("num_blocks", [1, 8])
def test_residual_nets_keep_their_size_at_any_depth(num_blocks) -> None:
    net = nets.ResidualEncoder((1, 16, 16), 4, channels=16, num_blocks=num_blocks)
    h = net.trunk[0](torch.randn(16, 1, 16, 16))
    assert 0.3 < h.std() < 3


@pytest.mark.parametrize("shape", [(1, 8, 8), (5,)])
def test_centre_output_of_an_mlp_gives_the_data_mean_exactly(shape) -> None:
    x = torch.rand(100, *shape)
    decoder = nets.MLPDecoder(2, shape)
    centre_output(decoder, Logits(), x)
    raw = decoder(torch.zeros(1, 2))[0]
    torch.testing.assert_close(raw.sigmoid(), x.mean(0))
    assert decoder.output_bias.requires_grad


@pytest.mark.parametrize("decoder", [nets.ConvDecoder, nets.ResidualDecoder])
def test_centre_output_of_a_convolutional_decoder_averages_over_pixels(decoder) -> None:
    x = torch.rand(100, 3, 8, 8) * torch.tensor([0.2, 0.5, 1.0])[:, None, None]
    net = decoder(2, (3, 8, 8), channels=4)
    centre_output(net, Logits(), x)
    torch.testing.assert_close(net.output_bias.detach(), torch.logit(x.mean(0)).mean((1, 2)))


def test_centre_output_with_the_real_bernoulli() -> None:
    likelihood = likelihoods.Bernoulli()
    x = (torch.rand(200, 1, 8, 8) < 0.3).float()
    decoder = nets.MLPDecoder(2, likelihood.raw_shape((1, 8, 8)))
    centre_output(decoder, likelihood, x)
    torch.testing.assert_close(likelihood(decoder(torch.zeros(1, 2))).mean[0], x.mean(0))


def test_centre_output_names_what_does_not_fit() -> None:
    decoder, x = nets.MLPDecoder(2, (5,)), torch.rand(3, 5)
    with pytest.raises(TypeError, match="Linear has no output_bias"):
        centre_output(nn.Linear(2, 5), Logits(), x)
    with pytest.raises(TypeError, match="Identity has no method initial_bias"):
        centre_output(decoder, nn.Identity(), x)
    with pytest.raises(ValueError, match=r"shape \(6,\).*output_bias \(5,\).*raw_shape\(\(6,\)\)"):
        centre_output(decoder, Logits(), torch.rand(3, 6))
    with pytest.raises(ValueError, match=r"floating-point.*torch.uint8 of shape \(3, 5\)"):
        centre_output(decoder, Logits(), x.byte())
    with pytest.raises(ValueError, match=r"at least one datum.*\(0, 5\)"):
        centre_output(decoder, Logits(), x[:0])
