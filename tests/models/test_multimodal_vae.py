"""Two views of a linear-Gaussian model: the product of the views' experts is the exact posterior."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

import ppl_vae as pv
from ppl_vae import PairError, data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.nets.scale import inverse_positive_scale
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")

LATENT, SIZES, NOISE = 2, (3, 4), (0.7, 1.3)


def make_pair(guide=guides.ProductOfExperts, alone=False):
    """Each view's expert is the likelihood's own factor, or with `alone` the posterior given that view."""
    decoders, encoders = [], []
    for size, noise in zip(SIZES, NOISE):
        # orthogonal columns, so that every posterior is diagonal
        weight = torch.linalg.qr(torch.randn(size, LATENT)).Q * torch.tensor([1.5, 0.8])
        decoder, encoder = nets.MLPDecoder(LATENT, (size,), ()), nets.MLPEncoder((size,), LATENT, ())
        linear = next(part for part in decoder.modules() if isinstance(part, torch.nn.Linear))
        head = encoder.head
        evidence = weight.square().sum(0) / noise**2
        precision = evidence + alone
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.normal_()
            head.linear.weight.zero_()
            slope = weight.T / noise**2 / precision.unsqueeze(-1)
            head.linear.weight[:LATENT] = slope
            head.linear.bias[:LATENT] = -slope @ linear.bias
            head.linear.bias[LATENT:] = inverse_positive_scale(
                precision.rsqrt(), head.min_scale, head.max_scale
            )
        decoders.append(decoder)
        encoders.append(encoder)
    views = [likelihoods.Gaussian(noise, event_dim=1) for noise in NOISE]
    model = models.MultimodalVAE(("a", "b"), views, decoders, LATENT)
    return pv.Pair(model, guide(encoders))


def gaussian(pair):
    """Mean and covariance of both views together."""
    zero, unit = torch.zeros(LATENT), torch.eye(LATENT)
    offset = torch.cat([decoder(zero) for decoder in pair.model.decoders]).detach()
    weight = torch.cat([(decoder(unit) - decoder(zero)).T for decoder in pair.model.decoders]).detach()
    noise = torch.cat([torch.full((size,), scale**2) for size, scale in zip(SIZES, NOISE)])
    return offset, weight @ weight.T + noise.diag()


def log_evidence(pair, *views):
    """log p of what is seen, datum by datum."""
    mean, covariance = gaussian(pair)
    found = []
    for row in torch.cat(views, -1):
        seen = (~row.isnan()).nonzero()[:, 0]
        part = dist.MultivariateNormal(mean[seen], covariance[seen][:, seen]) if len(seen) else None
        found.append(torch.zeros(()) if part is None else part.log_prob(row[seen]))
    return torch.stack(found)


def batch_with_gaps(size=4):
    """Of the four data one has both views, two lack one, and one lacks both."""
    a, b = torch.randn(size, SIZES[0]), torch.randn(size, SIZES[1])
    a[[1, 3]], b[[2, 3]] = torch.nan, torch.nan
    return a, b


def test_the_product_is_the_exact_posterior_with_every_view_and_without():
    pair, batch = make_pair(), batch_with_gaps()
    particles = estimators.IWAE(5).draw(pair.model, pair.guide, *batch)
    torch.testing.assert_close(particles.log_weight, log_evidence(pair, *batch).expand(5, -1))
    assert particles.log_likelihood["a"][:, [1, 3]].abs().max() == 0


@pytest.mark.parametrize("guide", [guides.MixtureOfExperts, guides.MixtureOfProducts])
def test_a_mixture_of_one_seen_view_is_that_views_posterior(guide):
    pair, (a, b) = make_pair(guide, alone=True), batch_with_gaps()
    log_weight = estimators.IWAE(5).draw(pair.model, pair.guide, a, b).log_weight
    exact = log_evidence(pair, a, b)
    torch.testing.assert_close(log_weight[:, 1:], exact[1:].expand(5, -1))
    assert (log_weight[:, 0] - exact[0]).abs().min() > 1e-3  # of both views it is not exact


def test_the_evidence_by_a_mixture_is_the_exact_one():
    pair = make_pair(guides.MixtureOfProducts, alone=True)
    batch = batch_with_gaps()
    batch[0][0, 1] = torch.nan  # one number, and not the view
    found = evaluate.log_likelihood(pair, batch, 4000, progress=False, capture=False)
    error = found.per_datum_monte_carlo_standard_error
    assert ((found.per_datum - log_evidence(pair, *batch)).abs() < SIGMAS * error + 1e-9).all()
    assert error.max() < 0.1


@pytest.mark.parametrize("method", ["importance", "metropolis-within-gibbs"])
def test_a_missing_view_is_imputed_from_the_other(method):
    pair = make_pair().eval()
    a, b = torch.randn(2, SIZES[0]), torch.full((2, SIZES[1]), torch.nan)
    options = {"num_proposals": 4000, "num_chains": 4000, "warmup": 20, "progress": False}
    found = pv.impute(pair, a, b, method=method, num_samples=4000, **options)
    mean, covariance = gaussian(pair)
    first, second = slice(None, SIZES[0]), slice(SIZES[0], None)
    slope = covariance[second, first] @ torch.linalg.inv(covariance[first, first])
    exact = mean[second] + (a - mean[first]) @ slope.T
    within = covariance[second, second] - slope @ covariance[first, second]
    draws = found.draws["b"]
    error = SIGMAS * (within.diagonal() / len(draws)).sqrt()
    assert ((draws.mean(0) - exact).abs() < error).all()
    assert ((found.means["b"] - exact).abs() < error).all()
    got = (draws - exact).square().mean((0, 1)) / within.diagonal()
    assert (got - 1).abs().max() < SIGMAS * (2 / (2 * len(draws))) ** 0.5


def test_data_that_lack_views_train_and_are_named():
    pair = make_pair()
    a, b = (view.repeat(10, 1).float() for view in batch_with_gaps())
    pair.float()
    rows = data.from_tensors(a=a, b=b, missing=True)
    run = pv.fit(pair, estimators.ELBO(), rows, epochs=2, progress=False, capture=False)
    assert run.history["train_bound"].notna().all()
    assert pair.arguments == ("a", "b")
    with pytest.raises(data.DataError, match=r"the programs take \(a, b\).*what is missing is b"):
        pv.fit(pair, estimators.ELBO(), data.from_tensors(a=a, c=b, missing=True), progress=False)
    with pytest.raises(data.DataError, match="b: row 2 holds NaN"):
        data.from_tensors(a=a.nan_to_num(), b=b)


def test_views_that_cannot_be_are_refused():
    one = likelihoods.Gaussian(event_dim=1)
    decoders = nets.MLPDecoder(2, (3,), ()), nets.MLPDecoder(2, (4,), ())
    for names in (("a", "a"), ("a", "my b")):
        with pytest.raises(ValueError, match="the names of the views differ and are those of arguments"):
            models.MultimodalVAE(names, (one, one), decoders, 2)
    with pytest.raises(ValueError, match="1 names take as many likelihoods and decoders, got 2 and 2"):
        models.MultimodalVAE(("a",), (one, one), decoders, 2)
    with pytest.raises(ValueError, match="the decoder of 'b' was built for 2"):
        models.MultimodalVAE(("a", "b"), (one, one), (nets.MLPDecoder(5, (3,)), decoders[1]), 5)
    with pytest.raises(ValueError, match="has 1 encoders, one for each view, got 2 views"):
        guides.ProductOfExperts([nets.MLPEncoder((3,), 2)])(torch.zeros(2, 3), torch.zeros(2, 4))


class Whole(torch.nn.Module):
    """A likelihood of one density over all of a view."""

    def forward(self, raw):
        return dist.MultivariateNormal(raw, torch.eye(raw.shape[-1]))


def test_a_view_without_elements_is_refused_by_its_name():
    model = models.MultimodalVAE(("a",), (Whole(),), (nets.MLPDecoder(2, (3,), ()),), 2)
    with pytest.raises(PairError, match="site 'a' does not factorise into elements"):
        model(torch.zeros(2, 3))
