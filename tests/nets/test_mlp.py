"""The multilayer perceptrons, beyond the contract of every net."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae.nets import MLP, MLPDecoder, MLPEncoder
from ppl_vae.nets.activations import ACTIVATIONS


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_trains(activation) -> None:
    net = MLP(5, (8, 6), 4, activation)
    net(torch.randn(32, 5)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in net.parameters())


def test_an_mlp_is_the_plain_sequence_of_layers() -> None:
    net = MLP(5, (8, 6), 4, "tanh")
    assert [type(layer) for layer in net.layers] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    first, _, second, _, last = net.layers
    x = torch.randn(3, 5)
    torch.testing.assert_close(net(x), last(second(first(x).tanh()).tanh()))


def test_a_gated_layer_is_that_of_the_vampprior_paper() -> None:
    net = MLP(5, (8,), activation="gated")
    (w, v), (b, c) = net.layers[0].weight.chunk(2), net.layers[0].bias.chunk(2)
    x = torch.randn(3, 5)
    torch.testing.assert_close(net(x), (x @ w.T + b) * torch.sigmoid(x @ v.T + c))


def test_no_layers_at_all_is_the_identity() -> None:
    net = MLP(5, ())
    x = torch.randn(3, 5)
    assert net(x) is x
    assert net.num_features == 5


def test_no_hidden_layers_make_linear_nets() -> None:
    encoder, decoder = MLPEncoder((1, 4, 4), 3, hidden=()), MLPDecoder(3, (1, 4, 4), hidden=())
    x0, x1 = torch.randn(2, 7, 1, 4, 4)
    middle = 0.5 * (encoder(x0)[0] + encoder(x1)[0])
    torch.testing.assert_close(encoder(0.5 * (x0 + x1))[0], middle)
    z0, z1 = torch.randn(2, 7, 3)
    torch.testing.assert_close(decoder(0.5 * (z0 + z1)), 0.5 * (decoder(z0) + decoder(z1)))
    assert encoder.num_features == 16
    assert sum(1 for _ in encoder.parameters()) == sum(1 for _ in decoder.parameters()) == 2


def test_batch_norm_counts_all_leading_dims_as_the_batch() -> None:
    net, twin = MLP(5, (8,), batch_norm=True), MLP(5, (8,), batch_norm=True)
    twin.load_state_dict(net.state_dict())
    x = 3 + 2 * torch.randn(6, 7, 5)
    torch.testing.assert_close(net(x).flatten(0, 1), twin(x.flatten(0, 1)))
    normed = net.layers[1](net.layers[0](x))
    torch.testing.assert_close(normed.mean((0, 1)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var((0, 1), correction=0), torch.ones(8), atol=1e-3, rtol=0)
    net.eval()
    torch.testing.assert_close(net(x)[2, 3], net(x[2, 3]))


def test_dropout_acts_in_training_only() -> None:
    net = MLP(5, (1000,), activation="relu", dropout=0.5)
    x = torch.ones(5)
    assert (net(x) != net(x)).any()
    net.eval()
    assert (net(x) == net(x)).all()


@pytest.mark.parametrize(
    "net", [MLPEncoder((5,), 2, (8,), "relu", True, 0.1), MLP(5, (8,), None, "elu", True)]
)
def test_options_reach_the_layers(net) -> None:
    kinds = {type(module) for module in net.modules()}
    assert nn.BatchNorm1d in kinds
    assert (nn.Dropout in kinds) == bool(net.dropout)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP(0), "in_features must be a positive integer, got 0"),
        (lambda: MLP(5, (8, 0)), r"hidden must be a sequence of positive integers, got \(8, 0\)"),
        (lambda: MLP(5, 8), "hidden must be a sequence of positive integers, got 8"),
        (lambda: MLP(5, (8,), 0), "out_features must be a positive integer, got 0"),
        (lambda: MLP(5, dropout=1.0), r"dropout must be a probability in \[0, 1\), got 1.0"),
        (lambda: MLPEncoder((), 2), r"shape must be a sequence of positive integers, got \(\)"),
        (lambda: MLPEncoder(784, 2), "shape must be a sequence of positive integers, got 784"),
        (lambda: MLPEncoder((5,), 0), "latent_dim must be a positive integer, got 0"),
        (lambda: MLPDecoder(2.0, (5,)), "latent_dim must be a positive integer, got 2.0"),
        (lambda: MLPDecoder(2, (1, -8, 8)), r"shape must be .*, got \(1, -8, 8\)"),
    ],
)
def test_bad_arguments_give_clear_errors(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()
