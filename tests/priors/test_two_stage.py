"""The two-stage prior and its guide: the evidence of a chain of linear maps, its place in both programs."""

from __future__ import annotations

import torch
from pyro import poutine

import ppl_vae as pv
from ppl_vae import evaluate, guides, models, nets, priors


def test_the_evidence_is_that_of_the_chain(double):
    prior = priors.TwoStage(nets.MLPEncoder((1,), 2, ()), nets.MLPEncoder((2,), 1, ()))
    linear = prior.decoder.head.linear
    linear.weight.data[2:] = 0  # scales that do not move
    inner = models.LinearGaussian(2, 3, noise=0.8)
    guide = guides.TwoStage(guides.MeanField(nets.MLPEncoder((3,), 2, ())), prior)
    pair = pv.Pair(models.WithPrior(inner, prior), guide)
    for encoder in (guide.guide.encoder, prior.encoder):  # the same wide proposal for all data
        encoder.head.linear.weight.data.zero_()
        encoder.head.linear.bias.data.copy_(torch.tensor([0.0, 0.7]).repeat_interleave(encoder.latent_dim))
    loc, scale = prior.decoder(torch.zeros(1))
    weight = linear.weight[:2]
    covariance = weight @ weight.T + scale.square().diag_embed()
    noise = (2 * inner.log_scale).exp() * torch.eye(3)
    exact = torch.distributions.MultivariateNormal(
        inner.weight @ loc + inner.bias, inner.weight @ covariance @ inner.weight.T + noise
    )
    x = torch.randn(3, 3)
    found = evaluate.log_likelihood(pair, x, num_particles=20_000, progress=False)
    error = found.per_datum_monte_carlo_standard_error
    assert ((found.per_datum - exact.log_prob(x)).abs() < 4.5 * error).all()
    assert (error < 0.05).all()


def test_both_programs_draw_u_for_each_datum_and_particle():
    prior = priors.TwoStage(nets.MLPEncoder((2,), 3), nets.MLPEncoder((3,), 2), name="above")
    pair = pv.Pair(
        models.WithPrior(models.LinearGaussian(3, 5), prior),
        guides.TwoStage(guides.MeanField(nets.MLPEncoder((5,), 3)), prior),
    )
    trace = poutine.trace(pair.model).get_trace(torch.zeros(4, 5))
    assert trace.nodes["above"]["value"].shape == (4, 2)
    assert list(pv.encode(pair, torch.zeros(4, 5), num_samples=6).latents["above"].shape) == [6, 4, 2]
    assert pair.arguments == ("x",)
