"""Attend, infer, repeat: its evidence by quadrature, what absent objects cost, training, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, evaluate, guides, likelihoods, models, nets, queries
from ppl_vae.core.drawing import draw

SHAPE, GLIMPSE = (1, 6, 6), (1, 3, 3)


def make(max_count=1, likelihood=None, **options):
    torch.manual_seed(0)
    look = nets.SpatialTransformer(SHAPE, GLIMPSE, size=0.5)
    likelihood = likelihoods.Gaussian(scale=0.5) if likelihood is None else likelihood
    decoder = nets.MLPDecoder(1, GLIMPSE, (4,))
    model = models.AttendInferRepeat(likelihood, decoder, look, 1, max_count, **options)
    flat = nets.shapes.Flatten(SHAPE)
    counter = nn.Sequential(nets.shapes.Flatten(SHAPE), nets.MLP(36, (6,), max_count + 1))
    guide = guides.Attending(counter, flat, nets.MLPEncoder(GLIMPSE, 1, (4,)), look, max_count, hidden=6)
    return pv.Pair(model, guide)


def canvases(size=3):
    """With a bright square each."""
    x = torch.zeros(size, *SHAPE)
    for number in range(size):
        x[number, :, number : number + 2, 1:3] = 1.0
    return x


def test_the_evidence_is_that_of_quadrature():
    """Of one object at most, which looks the same whatever `what` says: a sum, and three integrals."""
    pair, x = make(likelihood=likelihoods.Gaussian(scale=0.7)).double(), canvases().double()
    model = pair.model
    step = torch.linspace(-4.5, 4.5, 25, dtype=torch.float64)
    grid = torch.cartesian_prod(step, step, step)
    log_p = -0.5 * grid.square().sum(-1)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.3, -0.2]))
        model.decoder.mlp.layers[-1].weight.zero_()
        model.decoder.mlp.layers[-1].bias.fill_(3.5)
        for head in (pair.guide.head, pair.guide.encoder.head):  # wider than the prior: no weight is large
            head.linear.weight.zero_()
            head.linear.bias.copy_(torch.tensor([0.1, 0.2]).repeat_interleave(head.latent_dim))
        one = model.transformer.place(nn.functional.softplus(model.decoder(grid[:1, :1]) - 3.0), grid)
        none, some = model.logits.log_softmax(0)
        seen = torch.stack([(log_p + model.likelihood(one).log_prob(each)).logsumexp(0) for each in x])
        seen = seen - log_p.logsumexp(0)
        exact = torch.logaddexp(none + model.likelihood(torch.zeros_like(x)).log_prob(x), some + seen)
    found = evaluate.log_likelihood(pair, (x,), 5_000, progress=False, seed=0)
    error = found.per_datum_monte_carlo_standard_error
    assert ((found.per_datum - exact).abs() < 4.5 * error + 1e-3).all()
    assert error.max() < 0.1
    empty = none + model.likelihood(torch.zeros_like(x)).log_prob(x)
    assert (exact - empty).min() > 0.3  # an object is seen
    assert evaluate.bounds(pair, (x,), 20).elbo < exact.mean()


def test_what_is_not_there_costs_nothing():
    """The terms of objects beyond the count are equal, so that a count of 0 has only its own."""
    pair, x = make(max_count=3), canvases()
    torch.manual_seed(0)
    particles = draw(pair.model, pair.guide, (x,), num_particles=50)
    count = particles.guide_trace.nodes["count"]["value"]
    assert set(count.unique().tolist()) == {0, 1, 2, 3}
    for number in range(1, 4):
        for site in (f"where{number}", f"what{number}"):
            term = particles.log_prior[site] - particles.log_guide[site]
            assert bool((term[count < number] == 0).all())
            assert bool((term[count >= number] != 0).any())


def test_it_learns_to_count(tmp_path):
    """Bright squares, none or one: the sum over the count finds which."""
    torch.manual_seed(1)
    x = torch.zeros(200, *SHAPE)
    there = torch.arange(200) % 2
    for number, (row, column) in zip(range(1, 200, 2), torch.randint(0, 5, (100, 2)).tolist(), strict=True):
        x[number, :, row : row + 2, column : column + 2] = 1.0
    pair = make(likelihood=likelihoods.Gaussian(scale=0.3))
    pv.fit(
        pair, estimators.EnumeratedELBO(), x, epochs=24, batch_size=20, learning_rate=1e-2, run_dir=tmp_path,
        progress=False, capture=False, check=False,
    )  # fmt: skip
    probabilities = queries.class_probabilities(pv.load(tmp_path), x, site="count")
    assert float((probabilities.argmax(-1) == there).float().mean()) > 0.95


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="takes a raw output of shape"):
        make(likelihood=likelihoods.Gaussian(scale="per_output"))
    with pytest.raises(ValueError, match="max_count must be a positive integer"):
        make(max_count=0)
    pair = make()
    pair.guide.encoder = nets.MLPEncoder(GLIMPSE, 4)
    with pytest.raises(pv.PairError, match=r"'what1': its event shape is \[1\] in the model but \[4\]"):
        evaluate.bounds(pair, canvases())
    pair = make()
    pair.guide.counter = nn.Sequential(nets.shapes.Flatten(SHAPE), nn.Linear(36, 5))
    with pytest.raises(ValueError, match="gives 5 logits, and max_count=1 needs 2"):
        pair.guide(canvases())
    with pytest.raises(ValueError, match="no num_features"):
        guides.Attending(nn.Identity(), nn.Identity(), nets.MLPEncoder(GLIMPSE, 1), pair.model.transformer)
