"""The distance in the features of a fixed network: its value, its gradient, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae.penalties import Perceptual
from tests.penalties.programs import images, pair, particles


def test_of_a_linear_network_it_is_a_normal_likelihood_of_the_features():
    """log N(f(x); f(mean), 1 / weight) up to a constant, and its gradient."""
    drawn = particles(num_particles=3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 5))
    penalty = Perceptual(network, weight=4.0).penalty("x", drawn, 8)
    node = drawn.model_trace.nodes["x"]
    mean = node["fn"].mean
    found = torch.distributions.Normal(network(node["value"]), 0.5)
    at_mean = found.log_prob(network(mean.flatten(0, 1)).unflatten(0, mean.shape[:2])).sum(-1)
    at_data = found.log_prob(found.mean).sum(-1)
    wanted = (at_data - at_mean).mean()
    torch.testing.assert_close(penalty(drawn), wanted)
    ours, theirs = (
        torch.autograd.grad(each, mean, retain_graph=True)[0] for each in (penalty(drawn), wanted)
    )
    torch.testing.assert_close(ours, theirs)


def test_the_network_is_a_copy_that_stays_as_it_is():
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)).train()
    drawn = particles()
    penalty = Perceptual(network).penalty("x", drawn, 8)
    before = {name: value.clone() for name, value in penalty.state_dict().items()}
    assert torch.equal(penalty(drawn), penalty(drawn)), "no dropout"
    penalty(drawn).backward()
    assert all(torch.equal(before[name], value) for name, value in penalty.state_dict().items())
    assert network.training
    assert all(each.requires_grad and each.grad is None for each in network.parameters())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"features must be a torch\.nn\.Module"):
        Perceptual(torch.flatten)
    with pytest.raises(ValueError, match="weight must be a finite number >= 0"):
        Perceptual(nn.Flatten(), weight=float("nan"))
    with pytest.raises(ValueError, match=r"site 'x' must be finite numbers for each of 8 data.*\(1152,\)"):
        Perceptual(nn.Flatten(0)).penalty("x", particles(), 8)
    with pytest.raises(ValueError, match=r"features cannot run on the data of site 'x', of shape .* each: "):
        Perceptual(nn.Linear(7, 3)).penalty("x", particles(), 8)
    of = pair((1, 4, 4))
    of.model.decoder.requires_grad_(False)
    of.guide.requires_grad_(False)
    with pytest.raises(ValueError, match=r"the Independent of site 'x' has no mean with a gradient"):
        Perceptual(nn.Flatten()).penalty("x", particles(of, images(shape=(1, 4, 4))), 8)
