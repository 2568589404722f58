"""Codes level after level: probabilities by the definition, the bound and the evidence by enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate, guides, likelihoods, models, nets, priors
from ppl_vae.testing.linter import check_estimator_for
from tests.capture.helpers import assert_same_steps, images, sgd
from tests.conftest import SIGMAS

LEVELS, VALUES, DIM = 2, 4, 3
EVERY = torch.eye(VALUES)[torch.tensor(list(itertools.product(range(VALUES), repeat=LEVELS)))]  # (16, 2, 4)


def make(prior=None, depth_dropout=0.0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        book = nets.ResidualCodebook(LEVELS, VALUES, DIM)
        decoder = nets.ResidualCodebookDecoder(book, nets.MLPDecoder(DIM, (1, 4, 4), (6,)), depth_dropout)
        prior = prior or priors.Categorical(LEVELS, VALUES, learned=False)
        model = models.VAE(likelihoods.Bernoulli(), decoder, LEVELS * VALUES, prior)
        guide = guides.ResidualQuantised(nets.MLPEncoder((1, 4, 4), DIM, (6,)), book, **options)
        return pv.Pair(model, guide).double()


def log_guide(pair, x):
    """(16, B): log q(z | x) of all codes, written out level by level."""
    points, vectors = pair.guide.encoder(x)[0], pair.guide.codebook.vectors
    found = torch.zeros(len(EVERY), len(x), dtype=x.dtype)
    for number, codes in enumerate(EVERY.argmax(-1)):
        left = points
        for level, value in enumerate(codes):
            distances = (left.unsqueeze(1) - vectors[level]).square().sum(-1)
            found[number] += (-distances).log_softmax(-1)[:, value]
            left = left - vectors[level, value]
    return found


def log_joint(pair, x):
    """(16, B): log p(x, z) of all codes."""
    z = EVERY.to(x.dtype)
    raw = pair.model.decoder(z.flatten(1)).unsqueeze(1)
    likelihood = torch.distributions.Bernoulli(logits=raw).log_prob(x).flatten(2).sum(-1)
    return likelihood + pair.model.prior().log_prob(z).unsqueeze(-1)


def test_the_density_is_the_product_over_the_levels_and_sums_to_one():
    pair, x = make(), images(3).double()
    with torch.no_grad():
        wanted = log_guide(pair, x)
    torch.testing.assert_close(wanted.logsumexp(0), torch.zeros(3, dtype=x.dtype), rtol=0, atol=1e-12)
    with torch.no_grad():
        drawn = estimators.ELBO(3).draw(pair.model, pair.guide, x).guide_trace.nodes["z"]
        torch.testing.assert_close(drawn["fn"].log_prob(EVERY.to(x.dtype)[:, None, None])[:, 0], wanted)
    places = (drawn["value"].argmax(-1) * torch.tensor([VALUES, 1])).sum(-1)
    torch.testing.assert_close(drawn["fn"].log_prob(drawn["value"]).detach(), wanted.gather(0, places))


def test_of_far_points_it_is_the_nearest_vector_of_what_is_left():
    pair, x = make(), images(20).double()
    with torch.no_grad():
        pair.guide.codebook.vectors.mul_(200)
        pair.guide.encoder.head.linear.weight.mul_(200)
        left, vectors = pair.guide.encoder(x)[0], pair.guide.codebook.vectors
        z = pair.eval().guide(x)
        for level in range(LEVELS):
            nearest = torch.cdist(left, vectors[level]).argmin(-1)
            assert torch.equal(z[:, level].argmax(-1), nearest)
            left = left - vectors[level, nearest]
    assert len(z.argmax(-1).unique(dim=0)) > 2


def test_the_bound_and_the_evidence_are_those_of_all_codes():
    pair, x = make().eval(), images(4).double()
    with torch.no_grad():
        q, joint = log_guide(pair, x), log_joint(pair, x)
    terms = joint - q
    elbo, second = (q.exp() * terms).sum(0), (q.exp() * terms.square()).sum(0)
    bound = evaluate.bounds(pair, x, 500).per_datum
    assert ((bound - elbo).abs() < SIGMAS * ((second - elbo.square()) / 500).sqrt()).all()
    found = evaluate.log_likelihood(pair, x, 1000, progress=False, capture=False)
    error = found.per_datum_monte_carlo_standard_error
    assert ((found.per_datum - joint.logsumexp(0)).abs() < SIGMAS * error).all()
    assert (joint.logsumexp(0) > elbo).all()


def test_without_a_path_the_gradient_is_that_of_the_sum_over_all_codes():
    pair, x = make(path="none"), images(1).double()
    parameters = list(pair.guide.encoder.head.parameters())
    q, joint = log_guide(pair, x), log_joint(pair, x)
    exact = torch.autograd.grad((q.exp() * (joint - q)).sum(), parameters)
    with pytest.raises(PairError, match="their values are no list to be summed over"):
        check_estimator_for(pair, (x,), estimators.EnumeratedELBO())
    check_estimator_for(pair, (x,), estimators.VIMCO(2))
    estimator = estimators.ELBO(20_000)
    surrogate = estimator.surrogate(estimator.draw(pair.model, pair.guide, x)).sum()
    for got, wanted in zip(torch.autograd.grad(surrogate, parameters), exact):
        torch.testing.assert_close(got, wanted, rtol=0.1, atol=0.1)


def test_levels_are_left_out_in_training_from_one_on_down():
    pair = make(depth_dropout=0.5)
    decoder, z = pair.model.decoder, EVERY[5].double().flatten().expand(400, -1)
    parts = decoder.codebook.parts(z.unflatten(-1, (LEVELS, VALUES)))
    sums = [torch.zeros_like(parts[:, 0]), parts[:, 0], parts.sum(-2)]
    raw = [decoder.decoder(each) for each in sums]
    torch.testing.assert_close(decoder.eval()(z), raw[2])
    found = decoder.train()(z)
    shares = [float((found == each).flatten(1).all(1).double().mean()) for each in raw]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=SIGMAS * 0.025)


def test_it_trains_with_a_path_and_a_prior_is_fitted_to_its_codes(tmp_path):
    x = images(60)
    x[:40] = x[0]
    pair = make().float()
    start = pair.guide.codebook.vectors.clone()
    pv.fit(pair, estimators.ELBO(), x, epochs=2, run_dir=tmp_path, progress=False, kl=0.1, capture=False)
    assert not torch.equal(pair.guide.codebook.vectors, start)
    loaded = pv.load(tmp_path)
    assert loaded.guide.codebook is loaded.model.decoder.codebook
    found = pv.refit_prior(loaded, x, priors.Autoregressive(LEVELS, VALUES), epochs=20, learning_rate=0.05)
    assert found.after.elbo > found.before.elbo


@pytest.mark.grid
def test_a_captured_step_equals_the_eager_one():
    pair = make(depth_dropout=0.3)
    assert_same_steps(pair, estimators.ELBO(2), [(images(4).double(),)], make=sgd, steps=3)


def test_bad_arguments_are_named():
    book = nets.ResidualCodebook(2, 4, 3)
    with pytest.raises(ValueError, match=r"latent_dim is 3 but the encoder was built for 2"):
        guides.ResidualQuantised(nets.MLPEncoder((5,), 2), book)
    with pytest.raises(ValueError, match=r"latent_dim is 3 but the decoder was built for 4"):
        nets.ResidualCodebookDecoder(book, nets.MLPDecoder(4, (5,)))
    with pytest.raises(ValueError, match=r"depth_dropout must be in \[0, 1\), got 1"):
        nets.ResidualCodebookDecoder(book, nets.MLPDecoder(3, (5,)), depth_dropout=1)
    with pytest.raises(ValueError, match="decay must be a positive number, got 0"):
        nets.ResidualCodebook(2, 4, 3, decay=0)
