"""A model with another prior: its density, and sites that do not fit."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import guides, models, nets, priors
from ppl_vae.core.drawing import draw


def make(prior, site="z"):
    model = models.WithPrior(models.LinearGaussian(2, 5), prior, site)
    return pv.Pair(model, guides.MeanField(nets.MLPEncoder((5,), 2)))


@pytest.mark.parametrize("count", [1, 3])
def test_the_sites_density_is_the_priors_and_the_rest_as_it_was(count):
    prior = priors.MixtureOfGaussians(2, 4)
    pair, x = make(prior), torch.randn(6, 5)
    particles = draw(pair.model, pair.guide, (x,), num_particles=count)
    z = particles.guide_trace.nodes["z"]["value"].reshape(count, 6, 2)
    torch.testing.assert_close(particles.log_prior["z"], prior().log_prob(z))
    inner = pair.model.model
    mean = z @ inner.weight.T + inner.bias
    expected = torch.distributions.Normal(mean, inner.log_scale.exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(particles.log_likelihood["x"], expected)
    assert pair.arguments == ("x",)


def test_what_does_not_fit_is_named():
    x = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"event shape \[2\], and the prior \[3\]"):
        make(priors.DiagonalNormal(3)).model(x)
    with pytest.raises(ValueError, match="the model has no latent site 'w'"):
        make(priors.DiagonalNormal(2), "w").model(x)
