"""Gaps in the data of any likelihood that factorises: what is seen is scored exactly, and nothing else is."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.core.sites import PairError
from ppl_vae.testing import check_pair

NAN = float("nan")


@pytest.mark.parametrize(
    "likelihood",
    [
        likelihoods.Bernoulli(),
        likelihoods.Gaussian(scale="per_output"),
        likelihoods.Poisson(),
        likelihoods.Categorical(num_classes=4),
        likelihoods.LogNormal(),
        likelihoods.DiscretisedLogisticMixture(num_mixtures=2, levels=4),
    ],
    ids=lambda likelihood: type(likelihood).__name__,
)
def test_it_is_the_likelihood_of_what_is_seen_and_nan_reaches_no_gradient(likelihood):
    torch.manual_seed(0)
    shape, whole = (2, 3, 4), likelihoods.Incomplete(likelihood)
    raw = torch.randn(5, 6, *whole.raw_shape(shape), dtype=torch.float64, requires_grad=True)
    x = likelihood(raw[0]).sample().double()
    assert torch.allclose(whole(raw).log_prob(x), likelihood(raw).log_prob(x))
    gone = torch.rand(x.shape) < 0.4
    found = whole(raw).log_prob(x.masked_fill(gone, NAN))
    single = likelihood(raw).base_dist
    assert torch.allclose(found, (single.log_prob(x) * ~gone).sum((-3, -2, -1)))
    (gradient,) = torch.autograd.grad(found.sum(), raw)
    assert bool(gradient.isfinite().all())
    assert bool((whole(raw).log_prob(torch.full_like(x, NAN)) == 0).all())
    assert torch.equal(whole(raw).mean, likelihood(raw).mean)
    assert whole(raw).sample().isfinite().all()
    whole.check(x.masked_fill(gone, NAN))
    assert isinstance(whole, likelihoods.Likelihood)


def test_values_outside_the_support_are_named_beside_gaps():
    x = torch.tensor([[1.0, NAN, 0.5]])
    with pytest.raises(ValueError, match=r"likelihoods\.Bernoulli: data must be 0 or 1, found 0\.5"):
        likelihoods.Incomplete(likelihoods.Bernoulli(event_dim=1)).check(x)
    with pytest.raises(ValueError, match="Mixed takes NaN"):
        likelihoods.Incomplete(likelihoods.Mixed((likelihoods.Gaussian(event_dim=1),), ((0,),)))
    with pytest.raises(ValueError, match=r"\(6,\) for data of shape \(3,\)"):
        nets.IncompleteEncoder(nets.MLPEncoder((3,), 2))


class Whole(nn.Module):
    """One density of all numbers, which no gap can be taken out of."""

    event_dim = 1

    def raw_shape(self, shape):
        return shape

    def forward(self, raw):
        return dist.MultivariateNormal(raw, torch.eye(raw.shape[-1]).to(raw))


def test_a_density_that_does_not_factorise_is_refused_by_name():
    with pytest.raises(PairError, match="MultivariateNormal is one density of a whole event"):
        likelihoods.Incomplete(Whole())


class Prior(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))


def test_the_evidence_is_the_exact_marginal_of_what_is_seen():
    """z ~ N(0, 1), x | z ~ N(w z + b, 0.25 I): x_seen is normal."""
    torch.manual_seed(0)
    decoder = nets.MLPDecoder(1, (3,), hidden=())
    pair = pv.Pair(
        models.VAE(likelihoods.Incomplete(likelihoods.Gaussian(scale=0.5, event_dim=1)), decoder, 1), Prior()
    )
    x = torch.randn(12, 3)
    x = x.masked_fill(torch.rand(x.shape) < 0.4, NAN)
    found = evaluate.log_likelihood(pair, x, 20_000, progress=False).per_datum
    with torch.no_grad():
        b, w = (decoder(torch.tensor([[value]]))[0].double() for value in (0.0, 1.0))
    w = w - b
    for row, value in zip(x.double(), found):
        seen = ~row.isnan()
        covariance = w[seen, None] * w[seen] + 0.25 * torch.eye(int(seen.sum()), dtype=torch.float64)
        exact = dist.MultivariateNormal(b[seen], covariance).log_prob(row[seen]) if seen.any() else 0.0
        assert float(value) == pytest.approx(float(exact), abs=0.05)


@pytest.mark.filterwarnings("ignore:impute. k-hat")
def test_images_with_gaps_are_trained_on_kept_and_imputed(tmp_path):
    (x,) = data.load("digits").train.take(200).tensors()
    torch.manual_seed(0)
    gappy = x.masked_fill(torch.rand(x.shape) < 0.3, NAN)
    decoder = nets.MLPDecoder(3, (1, 8, 8), (16,))
    encoder = nets.IncompleteEncoder(nets.MLPEncoder((2, 8, 8), 3, (16,)))
    model = models.VAE(likelihoods.Incomplete(likelihoods.Bernoulli()), decoder, 3)
    for guide in (guides.FullRank(encoder), guides.IAF(encoder), guides.MeanField(encoder)):
        check_pair(pv.Pair(model, guide), gappy[:8])
    pair = pv.Pair(model, guide)
    run = pv.fit(
        pair,
        estimators.IWAE(3),
        gappy,
        epochs=10,
        learning_rate=1e-2,
        run_dir=tmp_path / "run",
        progress=False,
    )
    assert run.history["train_bound"].iloc[-1] > run.history["train_bound"].iloc[0] + 1
    again = pv.load(tmp_path / "run")
    filled = pv.impute(again, gappy[:20], num_samples=5, num_proposals=50, progress=False).draw
    seen = ~gappy[:20].isnan()
    assert bool(filled.isfinite().all())
    assert torch.equal(filled[:, seen], gappy[:20][seen].expand(5, -1))


@pytest.mark.grid
def test_a_captured_step_takes_gaps():
    (x,) = data.load("digits").train.take(100).tensors()
    torch.manual_seed(0)
    gappy = x.masked_fill(torch.rand(x.shape) < 0.3, NAN)
    decoder = nets.MLPDecoder(3, (1, 8, 8), (16,))
    model = models.VAE(likelihoods.Incomplete(likelihoods.Bernoulli()), decoder, 3)
    guide = guides.MeanField(nets.IncompleteEncoder(nets.MLPEncoder((2, 8, 8), 3, (16,))))
    settings = {"epochs": 20, "batch_size": 50, "learning_rate": 1e-2, "progress": False}
    run = pv.fit(pv.Pair(model, guide), estimators.ELBO(), gappy, capture=True, **settings)
    assert run.history["train_bound"].iloc[-1] > run.history["train_bound"].iloc[0] + 5
