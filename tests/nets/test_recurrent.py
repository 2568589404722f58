"""Recurrent nets: what each feature has seen, and that padding is not looked at."""

from __future__ import annotations

import pytest
import torch

from ppl_vae import nets

LENGTH = torch.tensor([5, 2, 3])
THERE = torch.arange(5) < LENGTH[:, None]
SEEN = {
    "forwards": lambda step, length: set(range(step + 1)),
    "backwards": lambda step, length: set(range(step, length)),
    "both": lambda step, length: set(range(length)),
}


@pytest.mark.parametrize("direction", SEEN)
@pytest.mark.parametrize("padded", [True, False])
def test_a_feature_has_seen_the_steps_of_its_direction(direction, padded):
    net = nets.Recurrent(2, 3, direction)
    x = torch.randn(3, 5, 2, requires_grad=True)
    features = net(x, THERE if padded else None)
    assert features.shape == (3, 5, net.num_features)
    for row, length in enumerate(LENGTH.tolist() if padded else [5, 5, 5]):
        for step in range(length):
            (gradient,) = torch.autograd.grad(features[row, step].sum(), x, retain_graph=True)
            moved = gradient.abs().sum(-1).nonzero().tolist()
            assert {tuple(each) for each in moved} == {(row, s) for s in SEEN[direction](step, length)}


def test_backwards_is_forwards_on_the_turned_sequence():
    net = nets.Recurrent(2, 3, "backwards")
    x = torch.randn(3, 5, 2)
    features = net(x, THERE)
    for row, length in enumerate(LENGTH.tolist()):
        alone, _ = net.cells["backwards"](x[row : row + 1, :length].flip(1))
        torch.testing.assert_close(features[row, :length], alone[0].flip(0))


@pytest.mark.parametrize("gate", [-100.0, 100.0])
def test_a_transition_is_linear_or_what_the_net_proposes(gate):
    net = nets.GatedTransition(3, 20)
    torch.nn.init.constant_(net.gate.layers[-1].bias, gate)
    z = torch.randn(5, 4, 3)
    loc, scale = net(z)
    torch.testing.assert_close(loc, z if gate < 0 else net.proposal(z))
    assert scale.shape == z.shape
    assert (scale > 0).all()


@pytest.mark.parametrize("length", [4, 9])
def test_a_string_is_read_to_its_end_whatever_the_width(length):
    torch.manual_seed(0)
    features = nets.StringFeatures(3, 4, hidden=5, embedding_dim=2)
    wide = nets.StringFeatures(3, length, hidden=5, embedding_dim=2)
    wide.load_state_dict(features.state_dict())
    x = torch.tensor([[1, 2, 3, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    again = torch.nn.functional.pad(x, (0, length - 4))
    torch.testing.assert_close(wide(again), features(x))
    assert wide(again.reshape(3, 1, length)).shape == (3, 1, 10)
    assert not torch.allclose(features(torch.tensor([[1, 2, 3, 0]])), features(torch.tensor([[2, 1, 3, 0]])))
