"""The vector-quantised guide: bounds by enumeration, its gradient by the definition, and its codebook."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, evaluate, guides, likelihoods, models, nets, priors
from ppl_vae.core.sites import PairError
from ppl_vae.distributions.nearest import straight_through
from tests.capture.helpers import images

CODES, VALUES, DIM = 2, 4, 2
STATES = torch.tensor(list(itertools.product(range(VALUES), repeat=CODES)))
EVERY = torch.eye(VALUES)[STATES]  # (16, 2, 4)


def make(encoder=None, learned=False, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        book = nets.Codebook(VALUES, DIM, **options)
        decoder = nets.CodebookDecoder(book, nets.MLPDecoder(CODES * DIM, (1, 4, 4), (6,)))
        encoder = encoder or nets.MLPEncoder((1, 4, 4), CODES * DIM, (6,))
        prior = priors.Categorical(CODES, VALUES, learned=learned)
        model = models.VAE(likelihoods.Bernoulli(), decoder, CODES * VALUES, prior)
        return pv.Pair(model, guides.VectorQuantised(encoder, book))


def joint(pair, x):
    """(16, B): log p(x, z) of every z."""
    raw = pair.model.decoder(EVERY.to(x.dtype).flatten(1))
    terms = torch.distributions.Bernoulli(logits=raw.unsqueeze(1)).log_prob(x)
    return terms.flatten(2).sum(-1) - CODES * math.log(VALUES)


class Table(nn.Module):
    """An encoder that is told its answers."""

    def __init__(self, points):
        super().__init__()
        self.points = nn.Parameter(points)

    def forward(self, x):
        return self.points[: len(x)], torch.ones_like(self.points[: len(x)])


def test_the_bound_is_one_term_of_the_evidence_and_the_best_where_the_guide_picks_it():
    pair, x = make(), images(5)
    with torch.no_grad():
        terms = joint(pair, x)
        z = pair.guide(x)
        at_guides = terms.gather(0, (z.argmax(-1) @ torch.tensor([VALUES, 1])).unsqueeze(0))[0]
        found = evaluate.bounds(pair, x)
        torch.testing.assert_close(found.per_datum, at_guides.double(), rtol=0, atol=1e-5)
        torch.testing.assert_close(found.kl["z"], CODES * math.log(VALUES))
        assert (terms.logsumexp(0) > at_guides).all()
        best = pair.guide.codebook.vectors[EVERY[terms.argmax(0)].argmax(-1)].flatten(1)
        told = pv.Pair(pair.model, guides.VectorQuantised(Table(best), pair.guide.codebook))
        found = evaluate.bounds(told, x)
    torch.testing.assert_close(found.per_datum, terms.amax(0).double(), rtol=0, atol=1e-5)


def test_weights_that_are_equal_because_one_value_is_drawn_are_a_lower_bound():
    pair, x = make(), images(5)
    found = evaluate.log_likelihood(pair, x, 50, progress=False)
    assert found.is_lower_bound
    assert "one value alone for 100.0% of the data" in str(found)
    assert math.isnan(found.monte_carlo_standard_error)
    assert found.ess.tolist() == [1] * 5
    torch.testing.assert_close(found.per_datum, evaluate.bounds(pair, x).per_datum, rtol=0, atol=1e-5)
    logits = Table(1000.0 * EVERY[:5].flatten(1))
    sure = guides.Categorical(logits, VALUES)  # any guide that is as sure
    assert evaluate.log_likelihood(pv.Pair(pair.model, sure), x, 50, progress=False).is_lower_bound
    with torch.no_grad():  # the posterior is the prior, and so is the guide: all weights are equal, rightly
        for each in [*sure.parameters(), *pair.model.decoder.decoder.parameters()]:
            each.zero_()
    assert not evaluate.log_likelihood(pv.Pair(pair.model, sure), x, 50, progress=False).is_lower_bound
    with pytest.raises(PairError, match="draws one value alone of site 'z'"):
        pv.posterior(pair, x, method="resample", num_samples=3, progress=False)


@pytest.mark.parametrize("estimator", [estimators.ELBO(2), estimators.MeanFieldELBO()])
def test_the_gradient_is_the_straight_through_one(estimator):
    pair, x = make().double(), images(5).double()
    book, decoder, encoder = pair.guide.codebook, pair.model.decoder.decoder, pair.guide.encoder
    estimator.differentiable_loss(pair.model, pair.guide, x).backward()
    found = [p.grad.clone() for p in encoder.trunk.parameters()]
    pair.zero_grad()
    points = encoder(x)[0].unflatten(-1, (CODES, DIM))
    nearest = book.vectors[torch.cdist(points, book.vectors).argmin(-1)]
    passed = points + (nearest - points).detach()
    log_likelihood = torch.distributions.Bernoulli(logits=decoder(passed.flatten(1))).log_prob(x)
    (-log_likelihood.sum()).backward()
    for mine, wanted in zip(found, encoder.trunk.parameters(), strict=True):
        torch.testing.assert_close(mine, wanted.grad)
    assert found[0].abs().sum() > 0


def test_few_vectors_pass_the_part_of_the_gradient_along_their_differences():
    vectors = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    through = straight_through(vectors) @ vectors
    differences = vectors[1:] - vectors[0]
    torch.testing.assert_close(differences @ through, differences)
    torch.testing.assert_close(through @ through, through)
    torch.testing.assert_close(through.trace().round(), torch.tensor(2.0, dtype=torch.float64))


def test_a_prior_fitted_to_the_codes_raises_the_bound():
    x = images(200)
    x[:150] = x[0]  # codes that are far from uniform
    pair = make()
    prior = priors.Autoregressive(CODES, VALUES)
    found = pv.refit_prior(pair, x, prior, epochs=30, learning_rate=0.05)
    assert found.after.elbo > found.before.elbo + 0.5
    codes = pair.eval().guide(x[::10])
    wanted = found.before.elbo + CODES * math.log(VALUES) + prior.eval()().log_prob(codes).mean().detach()
    torch.testing.assert_close(found.after.elbo, float(wanted), rtol=0, atol=1e-4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1"):
        nets.Codebook(4, 2, decay=1.0)
    with pytest.raises(ValueError, match=r"latent_dim, 3, is no multiple of the codebook's code_dim=2"):
        guides.VectorQuantised(nets.MLPEncoder((5,), 3), nets.Codebook(4, 2))
    with pytest.raises(ValueError, match=r"latent_dim, 3, is no multiple of the codebook's code_dim=2"):
        nets.CodebookDecoder(nets.Codebook(4, 2), nets.MLPDecoder(3, (5,)))
