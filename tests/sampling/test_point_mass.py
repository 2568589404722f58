"""Guides and priors without a density are told from the others."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.core.drawing import draw
from ppl_vae.core.sites import PairError
from ppl_vae.sampling.point_mass import refuse_point_mass

SHAPE = (1, 4, 4)


class Echo(nn.Module):
    """A latent that is a function of the datum in both programs."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Delta(x.sum((-3, -2, -1))))


class Observed(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Delta(x.sum((-3, -2, -1))))
            pyro.sample("x", dist.Normal(0.0, 1.0).expand(SHAPE).to_event(3), obs=x)


def particles(model, guide):
    return draw(model, guide, (torch.rand(3, *SHAPE).round(),))


def parts():
    return likelihoods.Bernoulli(), nets.MLPDecoder(2, SHAPE), nets.MLPEncoder(SHAPE, 2)


@pytest.mark.parametrize("make", [models.VAE, models.Autoencoder])
def test_a_point_has_no_density(make):
    likelihood, decoder, encoder = parts()
    found = particles(make(likelihood, decoder, 2), guides.Deterministic(encoder))
    with pytest.raises(PairError, match=r"some question: the guide puts site 'z' in one point"):
        refuse_point_mass(found, "some question")


def test_a_flat_prior_has_no_evidence():
    likelihood, decoder, encoder = parts()
    found = particles(models.Autoencoder(likelihood, decoder, 2), guides.MeanField(encoder))
    with pytest.raises(PairError, match="no prior over site 'z'"):
        refuse_point_mass(found, "some question")


def test_others_pass():
    likelihood, decoder, encoder = parts()
    refuse_point_mass(particles(models.VAE(likelihood, decoder, 2), guides.MeanField(encoder)), "")
    refuse_point_mass(particles(Observed(), Echo()), "")
