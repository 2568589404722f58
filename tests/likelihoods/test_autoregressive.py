"""The autoregressive likelihood: where it starts, what it refuses, and what questions say of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import evaluate, guides, likelihoods, models, nets
from tests.zoo import CASES

SHAPE = (2, 3, 4)


def build(elements=None, **options):
    elements = elements or likelihoods.Bernoulli()
    net = nets.PixelCNN(SHAPE, elements.raw_shape(SHAPE)[0], channels=4, dilations=(1,), **options)
    return likelihoods.Autoregressive(elements, net)


ELEMENTS = [
    likelihoods.Bernoulli(),
    likelihoods.Categorical(4),
    likelihoods.DiscretisedLogisticMixture(2, levels=4),
    likelihoods.Gaussian(scale="per_output"),
]


@pytest.mark.parametrize("elements", ELEMENTS, ids=lambda each: type(each).__name__)
def test_it_starts_as_the_likelihood_of_its_elements_at_the_datas_mean(elements):
    likelihood = build(elements, context_channels=elements.raw_shape(SHAPE)[0] + 3)
    assert isinstance(likelihood, likelihoods.Likelihood)
    channels = likelihood.raw_shape(SHAPE)[0]
    raw = torch.randn(5, channels, *SHAPE[1:])
    plain = elements(raw[:, :-3])
    x = plain.sample()
    torch.testing.assert_close(likelihood(raw).log_prob(x), plain.log_prob(x))
    mean = x.float().mean(0).clamp(0.4, 0.9)
    bias = likelihood.initial_bias(mean)
    assert bias.shape == (channels, *SHAPE[1:])
    torch.testing.assert_close(elements(bias[:-3]).mean, mean, rtol=1e-5, atol=1e-5)
    assert (bias[-3:] == 0).all()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"Bernoulli has event_dim=1: build it with event_dim=3"):
        likelihoods.Autoregressive(likelihoods.Bernoulli(event_dim=1), nets.PixelCNN(SHAPE, 2, 4))
    with pytest.raises(
        ValueError, match=r"built for data of shape \(2, 3, 4\) and 2 raw channels.*\(2, 4, 4\)"
    ):
        build().raw_shape((2, 4, 4))
    with pytest.raises(ValueError, match=r"Conv2d must say how many channels .*self\.raw_channels"):
        likelihoods.Autoregressive(likelihoods.Bernoulli(), nn.Conv2d(1, 1, 3))
    wrong = likelihoods.Autoregressive(likelihoods.Categorical(3), nets.PixelCNN(SHAPE, 2, 4))
    with pytest.raises(ValueError, match=r"and 2 raw channels: build it for \(2, 3, 4\) and 6"):
        wrong.raw_shape(SHAPE)
    with pytest.raises(ValueError, match=r"event shape \(4,\) has 1 dims"):
        build().raw_shape((4,))
    with pytest.raises(ValueError, match="fewer dims than event_dim=3"):
        build()(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="data must be 0 or 1"):
        build().check(torch.tensor(0.5))


@pytest.fixture(scope="module")
def ready():
    case = next(case for case in CASES if case.detail == "autoregressive")
    pair, batch = case.pair().eval(), case.batch()
    pair.remember(batch)
    return pair, batch[0]


NOT_FACTORISED = r"site 'x' does not factorise into elements: its Autoregressive is one density"


def test_what_needs_independent_elements_refuses_by_name(ready):
    pair, x = ready
    observed = torch.rand(x.shape) > 0.3
    with pytest.raises(pv.PairError, match=NOT_FACTORISED):
        pv.impute(pair, x, observed=observed, progress=False)
    with pytest.raises(pv.PairError, match=NOT_FACTORISED):
        pv.posterior(pair, x, observed=observed, progress=False)
    with pytest.raises(pv.PairError, match=NOT_FACTORISED):
        pv.impute(pair, x, observed=observed, method="pseudo-gibbs", progress=False)
    with pytest.raises(ValueError, match=r"site 'x': its Autoregressive has no mean to be scored"):
        pv.optimise(pair, lambda x: x.flatten(1).sum(1), x)


def test_compress_refuses_by_name(ready):
    pytest.importorskip("constriction")
    pair, x = ready
    with pytest.raises(pv.PairError, match=NOT_FACTORISED):
        pv.compress(pair, x)


def test_bounds_lie_below_the_exact_evidence_of_a_pair_whose_latent_is_summed():
    """p(x) = E_z p(x | z), by a grid over z; the bound with many particles comes near it."""
    torch.manual_seed(0)
    shape, likelihood = (1, 2, 2), likelihoods.Bernoulli()
    net = nets.PixelCNN(shape, 1, channels=4, dilations=(1,), context_channels=2)
    nn.init.normal_(net.last.weight)
    likelihood = likelihoods.Autoregressive(likelihood, net)
    decoder = nets.MLPDecoder(1, likelihood.raw_shape(shape), (4,))
    pair = pv.Pair(
        models.VAE(likelihood, decoder, 1), guides.MeanField(nets.MLPEncoder(shape, 1, (4,)))
    ).eval()
    x = torch.tensor([float(bit) for bit in f"{0b0110100111000011:016b}"]).reshape(4, *shape)
    with torch.no_grad():
        z = torch.linspace(-6, 6, 1001)[:, None, None]
        grid = likelihood(decoder(z)).log_prob(x) - z[..., 0].square() / 2
        exact = grid.double().logsumexp(0) + torch.tensor(12 / 1000 / (2 * torch.pi) ** 0.5).log()
    found = evaluate.log_likelihood(pair, x, 2000, progress=False)
    torch.testing.assert_close(found.per_datum, exact, rtol=0, atol=0.1)
    assert (evaluate.bounds(pair, x, 200).per_datum <= exact + 0.1).all()
