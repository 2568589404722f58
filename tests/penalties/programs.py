"""Small pairs of images for the tests of penalties."""

from __future__ import annotations

import torch

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.core.drawing import draw

SHAPE = (1, 12, 12)


def pair(shape=SHAPE, likelihood=None, hidden=(8,)):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        likelihood = likelihood or likelihoods.Bernoulli()
        decoder = nets.MLPDecoder(2, likelihood.raw_shape(shape), hidden)
        encoder = nets.MLPEncoder(shape, 2, hidden)
        return pv.Pair(models.VAE(likelihood, decoder, 2), guides.MeanField(encoder))


def images(count=8, shape=SHAPE):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(count, *shape, generator=generator) < 0.5).float()


def particles(of=None, x=None, num_particles=1):
    of = of or pair()
    return draw(of.model, of.guide, (images() if x is None else x,), num_particles=num_particles)
