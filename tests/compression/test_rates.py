"""Rates against enumeration and quadrature: -ELBO with one sample, -log2 p(x) with many."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets, priors
from ppl_vae.nets.scale import inverse_positive_scale
from tests.compression.programs import binary_vae, coins, finite, finite_data, ladder
from tests.conftest import SIGMAS

QUIET = {"progress": False, "coders": False}


def test_the_finite_pair_costs_its_elbo_to_a_thousandth_of_a_bit():
    """The guide is off the posterior by so little that the draws' spread leaves 0.0003 bits, and by so much
    that the ELBO is 0.005 bits from the evidence."""
    pair, negative_elbo, evidence = finite(off=0.1)
    x = finite_data(200_000)
    file = pv.compress(pair, x, batch_size=50_000, **QUIET)
    assert float((negative_elbo - evidence).mean()) > 0.004
    assert abs(file.rate - float(negative_elbo.mean())) < 0.001
    assert abs(file.negative_elbo - float(negative_elbo.mean())) < 0.001
    assert file.verified
    assert file.num_elements == 1


def test_many_samples_come_to_the_evidence():
    pair, negative_elbo, evidence = finite(off=0.7)
    x = finite_data(8_000)
    rates = [pv.compress(pair, x, batch_size=2_000, num_samples=k, **QUIET).rate for k in (1, 4, 64)]
    gaps = [rate - float(evidence.mean()) for rate in rates]
    assert float((negative_elbo - evidence).mean()) > 0.05  # there is something to win
    assert gaps[0] > 2 * gaps[1] > 4 * abs(gaps[2])
    assert abs(gaps[2]) < 0.01


def test_an_exact_guide_costs_the_evidence_of_every_single_datum():
    """No spread at all: each datum adds -log2 p(x), to the coder's rounding."""
    pair, _, evidence = finite(off=0.0)
    for value in range(8):
        x = torch.full((400,), float(value))
        file = pv.compress(pair, x, batch_size=100, verify=False, **QUIET)
        assert abs(file.rate - float(evidence[value])) < 0.01  # a bit or two of 400 at the ends


def by_bucket(pair, x, bits):
    """Mean and spread of a datum's bits, by enumeration of the buckets, with SciPy's normal distribution."""
    size = 2**bits
    middles = stats.norm.ppf((np.arange(size) + 0.5) / size)
    edges = stats.norm.ppf(np.arange(size + 1) / size)
    with torch.no_grad():
        loc, scale = (each.double().numpy() for each in pair.guide.encoder(x))
        raw = pair.model.decoder(torch.from_numpy(middles).float()[:, None])
        log_p = pair.model.likelihood(raw).log_prob(x[:, None]).double().numpy()
    q = np.diff(stats.norm.cdf(edges, loc, scale), axis=-1)  # (data, buckets)
    length = np.log2(np.maximum(q, 1e-300)) - log_p / math.log(2) + bits
    mean = (q * length).sum(-1)
    return mean.mean(), math.sqrt((q * (length - mean[:, None]) ** 2).sum(-1).mean())


def test_a_continuous_latent_costs_the_sum_over_its_buckets_and_that_comes_to_the_elbo():
    pair, x, count = binary_vae(seed=1), coins(8), 16_000
    for bits in (2, 8):
        mean, spread = by_bucket(pair, x, bits)
        file = pv.compress(pair, coins(count), batch_size=4_000, bits=bits, **QUIET)
        assert abs(3 * file.rate - mean) < SIGMAS * spread / math.sqrt(count) + 1e-3
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    with torch.no_grad():
        loc, scale = pair.guide.encoder(x)
        z = loc + scale * torch.from_numpy(nodes).float()  # (8, 100)
        log_p = pair.model.likelihood(pair.model.decoder(z[..., None])).log_prob(x[:, None])
        ratio = torch.distributions.Normal(0.0, 1.0).log_prob(z)
        ratio = ratio - torch.distributions.Normal(loc, scale).log_prob(z)
        elbo = ((log_p + ratio).double() @ torch.from_numpy(weights / weights.sum())).mean()
    gaps = [by_bucket(pair, x, bits)[0] + float(elbo) / math.log(2) for bits in (2, 6, 12)]
    assert abs(gaps[0]) > 5 * abs(gaps[1]) > 5 * abs(gaps[2])
    assert abs(gaps[2]) < 0.002


def by_pair_of_buckets(loc, factor, log_p, bits):
    """As `by_bucket` for two numbers, the second coded given the middle of the first one's bucket.

    Args:
        loc, factor: (data, 2) and (data, 2, 2) of the guide.
        log_p: (data, buckets, buckets) nats.
    """
    size = 2**bits
    middles, edges = (stats.norm.ppf((np.arange(n) + b) / size) for n, b in ((size, 0.5), (size + 1, 0)))
    first = np.diff(stats.norm.cdf(edges, loc[:, :1], factor[:, 0, :1]), axis=-1)
    noise = (middles - loc[:, :1]) / factor[:, 0, :1]
    given = loc[:, 1:] + factor[:, 1, :1] * noise  # (data, first's buckets)
    second = np.diff(stats.norm.cdf(edges, given[..., None], factor[:, 1, 1, None, None]), axis=-1)
    q = first[..., None] * second
    length = np.log2(np.maximum(q, 1e-300)) - log_p / math.log(2) + 2 * bits
    mean = (q * length).sum((1, 2))
    return mean.mean(), math.sqrt((q * (length - mean[:, None, None]) ** 2).sum((1, 2)).mean())


def full_rank(prior=None):
    """Two latents with a correlation that matters, over three bits."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        guide = guides.FullRank(nets.MLPEncoder((3,), 2, (4,)))
        decoder = nets.MLPDecoder(2, (3,), (4,))
        pair = pv.Pair(models.VAE(likelihoods.Bernoulli(1), decoder, 2, prior=prior), guide)
        with torch.no_grad():
            for parameter in pair.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            guide.lower_bias.add_(1.5)
    return pair


def test_a_guide_whose_numbers_go_together_costs_the_sum_over_its_buckets():
    pair, x, count, bits = full_rank(), coins(8), 16_000, 4
    with torch.no_grad():
        q = pair.guide.posterior(x)
        middles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(16) + 0.5) / 16)
        z = torch.cartesian_prod(middles, middles).reshape(16, 16, 1, 2)
        log_p = pair.model.likelihood(pair.model.decoder(z)).log_prob(x).movedim(-1, 0)
        correlation = q.covariance_matrix[:, 0, 1] / q.variance.prod(-1).sqrt()
    assert float(correlation.abs().min()) > 0.5
    mean, spread = by_pair_of_buckets(
        q.loc.double().numpy(), q.scale_tril.double().numpy(), log_p.double().numpy(), bits
    )
    file = pv.compress(pair, coins(count), batch_size=4_000, bits=bits, **QUIET)
    assert abs(3 * file.rate - mean) < SIGMAS * spread / math.sqrt(count) + 1e-3


def test_a_prior_whose_numbers_go_together_costs_its_elbo():
    """A mixture, whose weights each number changes for those after it; with more samples less, and never
    less than the evidence, an integral over a grid.
    """
    prior = priors.MixtureOfGaussians(latent_dim=2, num_components=3)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([[-1.5, -1.5], [1.5, 1.5], [0.0, 0.5]]))
        prior.raw_scale.copy_(inverse_positive_scale(torch.tensor(1.2)))
    pair = full_rank(prior)
    options = {"batch_size": 512, "bits": 6, "verify": False, **QUIET}
    files = [pv.compress(pair, coins(2_048), num_samples=k, **options) for k in (1, 4)]
    spread = math.sqrt(2) * files[0].standard_error
    assert abs(files[0].rate - files[0].negative_elbo) < SIGMAS * spread + 1e-3
    line = torch.linspace(-9.0, 9.0, 181)
    z = torch.cartesian_prod(line, line).unsqueeze(1)
    with torch.no_grad():
        log_p = pair.model.likelihood(pair.model.decoder(z)).log_prob(coins(8)) + prior().log_prob(z)
    evidence = -float(log_p.double().logsumexp(0).mean() + 2 * math.log(0.1)) / math.log(2)
    assert evidence - 1e-3 < 3 * files[1].rate < 3 * (files[0].rate - spread)


def test_data_that_are_all_alike_cost_their_elbo_too():
    """A datum is drawn from bits that the one before it left. Under priors that differ by datum, and with
    data that are always on one side of them, each would be drawn further out than the last.
    """

    def model(label, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(3 * label[:, None].expand(-1, 2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z).to_event(1), obs=x)

    def guide(label, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(3 * label[:, None] + x - 0.5, 0.9).to_event(1))

    data = {"label": torch.tensor([0.0, -2.0]).repeat(120), "x": torch.ones(240, 2)}
    file = pv.compress(pv.Pair(model, guide), data, batch_size=1, verify=False, **QUIET)
    draws = 1.3 / math.sqrt(240)  # bits of an element: the logits' spread, and that of log p(z) - log q(z)
    rate = file.rate - 8 * file.side_size / 480
    assert abs(rate - file.negative_elbo) < SIGMAS * math.sqrt(2) * draws


@pytest.mark.parametrize(("guide", "skip"), [("BottomUp", False), ("TopDown", False), ("BottomUp", True)])
def test_layers_cost_their_elbo(guide, skip):
    """The lower layer's prior differs by datum, and is coded by differences of distribution functions."""
    pair, x = ladder(guide, skip), coins(4_096, 8)
    file = pv.compress(pair, x, batch_size=1_024, bits=8, order="bits back", **QUIET)
    # the draws of the rate and of the bound have the same spread, and nothing in common
    assert abs(file.rate - file.negative_elbo) < SIGMAS * math.sqrt(2) * file.standard_error + 1e-3


def test_bit_swap_begins_with_fewer_bits_at_the_same_rate():
    pair, x = ladder(), coins(256, 8)
    files = {
        order: pv.compress(pair, x, batch_size=64, order=order, **QUIET) for order in ("bits back", "auto")
    }
    assert [file.order for file in files.values()] == ["bits back", "Bit-Swap"]
    assert files["auto"].initial_bits < files["bits back"].initial_bits
    difference = abs(files["auto"].rate - files["bits back"].rate)
    assert difference < SIGMAS * math.sqrt(2) * files["auto"].standard_error + 1e-3


@pytest.mark.parametrize(("guide", "skip"), [("TopDown", False), ("BottomUp", True)])
def test_what_is_no_chain_is_not_swapped(guide, skip):
    pair, x = ladder(guide, skip), coins(16, 8)
    assert pv.compress(pair, x, **QUIET).order == "bits back"
    with pytest.raises(pv.PairError, match=r"Bit-Swap goes along a chain.*order='bits back'"):
        pv.compress(pair, x, order="Bit-Swap", **QUIET)
