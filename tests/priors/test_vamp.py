"""The VampPrior: the guide's posteriors at the pseudo-inputs, and how these start."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets, priors

SHAPE = (1, 8, 8)


def make(components=6, bounded=True):
    encoder = nets.MLPEncoder(SHAPE, 2, (16,))
    return encoder, priors.VampPrior(encoder, components, bounded)


def test_it_is_the_mean_of_the_guides_posteriors(double):
    encoder, prior = make()
    guide, z = guides.MeanField(encoder), torch.randn(7, 2)
    sites = [pv.encode(pv.Pair(nn.Identity(), guide), u[None]).mean for u in prior.pseudo_inputs()]
    loc, scale = encoder(prior.pseudo_inputs())
    torch.testing.assert_close(torch.cat(sites), loc.detach())
    each = Normal(loc, scale).log_prob(z.unsqueeze(1)).sum(-1)
    torch.testing.assert_close(prior().log_prob(z), each.exp().mean(1).log())


def test_the_encoder_learns_through_the_prior_too():
    encoder, prior = make()
    prior().log_prob(torch.zeros(3, 2)).sum().backward()
    assert prior.raw.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_it_starts_at_data():
    digits = data.load("digits", binarise=None)
    _, prior = make(20)
    state = torch.get_rng_state()
    prior.initialise(digits.train, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    x = digits.train.tensors()[0].flatten(1)
    nearest = torch.cdist(prior.pseudo_inputs().detach().flatten(1), x).min(1)
    assert nearest.values.max() < 0.15  # of 64 pixels, each moved by at most 0.01 and the noise
    assert len(nearest.indices.unique()) == 20
    first = prior.raw.clone()
    prior.initialise(digits.train, seed=2)
    assert not torch.equal(prior.raw, first)
    prior.initialise(digits.train, seed=1)
    assert torch.equal(prior.raw, first)


def test_fewer_data_than_components_are_used_again_but_never_twice_alike():
    _, prior = make(9)
    prior.initialise(torch.rand(4, *SHAPE))
    u = prior.pseudo_inputs().detach().flatten(1)
    distances = torch.cdist(u, u) + torch.eye(9)
    assert 0 < distances.min() < 0.2


def test_real_data_are_not_bounded():
    _, prior = make(5, bounded=False)
    x = 10 * torch.randn(30, *SHAPE)
    prior.initialise(x)
    assert torch.cdist(prior.pseudo_inputs().detach().flatten(1), x.flatten(1)).min(1).values.max() < 0.2
    with pytest.raises(ValueError, match=r"data go from -\d+.* give bounded=False"):
        make()[1].initialise(x)


def test_mistakes():
    with pytest.raises(ValueError, match=r"encoder takes data of shape \(1, 8, 8\), got \(3,\)"):
        make()[1].initialise(torch.rand(5, 3))
    with pytest.raises(ValueError, match="has no attribute 'shape'"):
        priors.VampPrior(nets.Encoder(nn.Linear(4, 4), 4, 2))
    with pytest.raises(ValueError, match="latent_dim is 3 but the prior was built for 2"):
        models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(3, SHAPE), 3, make()[1])


def test_it_wins_where_the_codes_fall_into_clusters():
    """Two kinds of data, and codes of one dimension: two bumps where the standard normal has one."""
    x = torch.cat([torch.zeros(50, 4), torch.ones(50, 4)]) + 0.01 * torch.randn(100, 4)
    final = {}
    for name in ("standard", "vamp"):
        torch.manual_seed(0)
        encoder = nets.MLPEncoder((4,), 1, (8,))
        prior = priors.VampPrior(encoder, 2, bounded=False) if name == "vamp" else None
        if prior is not None:
            prior.initialise(x)
        likelihood = likelihoods.Gaussian(0.1, event_dim=1)
        model = models.VAE(likelihood, nets.MLPDecoder(1, (4,), (8,)), 1, prior)
        pair = pv.Pair(model, guides.MeanField(encoder))
        pv.fit(pair, estimators.ELBO(), x, epochs=70, batch_size=50, progress=False, learning_rate=1e-2)
        final[name] = pv.evaluate.bounds(pair, x, 50).elbo
    # with as many components as clusters, only the choice among them, log 2, has to be paid for
    assert final["vamp"] > final["standard"] + 0.2
