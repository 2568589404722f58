"""Draws from each datum's posterior, against posteriors that are known."""

from __future__ import annotations

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae.core.sites import PairError
from ppl_vae.testing.oracles import chain
from ppl_vae.testing.state_space import state_space
from tests.sampling.helpers import assert_matches, exact_posterior, linear_gaussian


def drawn(pair, *batch, site="z", **options):
    """The draws of a site, all chains together, (S, B, ...), and the statistics of the run."""
    options = {"progress": False, **options}
    result = pv.posterior(pair, *batch, **options)
    value = torch.from_numpy(result["posterior"][site].to_numpy())
    return value.flatten(0, 1), result["sample_stats"]


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.7, 0.2)])
def test_the_sampler_draws_the_exact_posterior(scale, shift):
    oracle, x = linear_gaussian(scale, shift)
    z, stats = drawn(oracle.pair, x, num_samples=150, num_chains=8, warmup=40, num_leapfrogs=3)
    assert float(stats["r_hat"].max()) < 1.05
    assert_matches(z, *exact_posterior(oracle.pair.model, x), size=float(stats["ess"].min()))
    assert 0.6 < float(stats["acceptance_rate"].mean()) < 0.97


def test_the_sampler_does_without_the_scale_of_the_guide():
    oracle, x = linear_gaussian(1e-5, 0.2)
    z, stats = drawn(oracle.pair, x, num_samples=100, num_chains=8, warmup=120, num_leapfrogs=4)
    assert float(stats["r_hat"].max()) < 1.1
    assert_matches(z, *exact_posterior(oracle.pair.model, x), size=float(stats["ess"].min()))


@pytest.mark.parametrize("method", ["importance", "resample", "anneal"])
def test_weighted_draws_have_the_exact_moments(method):
    oracle, x = linear_gaussian(1.3, 0.2)
    options = {"num_temperatures": 20, "num_leapfrogs": 2} if method == "anneal" else {}
    z, stats = drawn(oracle.pair, x, method=method, num_samples=2000, num_proposals=8000, **options)
    mean, covariance = exact_posterior(oracle.pair.model, x)
    if method == "importance":
        weight = torch.from_numpy(stats["log_weight"].to_numpy())[0].exp().unsqueeze(-1)
        assert torch.allclose(weight.sum(0), torch.ones(1, dtype=weight.dtype))
        error = ((weight * z).sum(0) - mean).abs()
        assert float(error.max()) < 5 / math.sqrt(float(stats["ess"].min()))
    else:
        assert_matches(z, mean, covariance, size=min(800.0, float(stats["ess"].min()) / 2))


def test_what_is_hidden_does_not_count():
    oracle, x = linear_gaussian()
    observed = torch.tensor([[True, True], [True, False], [False, True], [False, False]])[[0, 1, 2, 3, 1, 2]]
    exact = exact_posterior(oracle.pair.model, x, observed)
    z, stats = drawn(
        oracle.pair, x, observed=observed, num_samples=150, num_chains=8, warmup=40, num_leapfrogs=4
    )
    assert_matches(z, *exact, size=float(stats["ess"].min()))
    gaps = x.masked_fill(~observed, torch.nan)
    again, _ = drawn(oracle.pair, gaps, num_samples=150, num_chains=8, warmup=40, num_leapfrogs=4)
    assert torch.equal(again, z)


def test_hidden_steps_of_a_series_that_the_program_lays_out_otherwise():
    """x is (B, T), and the model observes x[:, t] at step t: the filter that skips them is the answer."""
    oracle = state_space((4, 4), perturb=0.0)
    x, length = oracle.batch
    observed = torch.ones_like(x, dtype=torch.bool)
    observed[0, 3] = observed[1, 2:] = False
    shorter = (x.clone(), torch.tensor([3, 2]))
    z, stats = drawn(
        oracle.pair,
        x,
        length,
        observed={"x": observed},
        site="z_0",
        num_samples=100,
        num_chains=10,
        warmup=40,
        num_leapfrogs=6,
    )
    exact = torch.stack(
        [pv.encode(oracle.pair, *shorter, num_samples=20_000, seed=1).latents["z_0"]]
    ).squeeze(0)
    error = (z.mean(0) - exact.mean(0)) / (exact.var(0) / float(stats["ess"].min())).sqrt()
    assert float(error.abs().max()) < 4
    assert torch.allclose(z.var(0), exact.var(0), rtol=0.25)


class Bounded(nn.Module):
    """Latents inside supports, one of which ends where another is."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            top = pyro.sample("top", dist.Gamma(2.0, x.new_ones(())))
            part = pyro.sample("part", dist.Uniform(x.new_zeros(()), top))
            share = pyro.sample("share", dist.Dirichlet(x.new_ones(3)))
            pyro.sample("x", dist.Normal(part + share[..., 0], 0.5), obs=x)


class BoundedGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            top = pyro.sample("top", dist.Gamma(2.0, x.new_ones(())))
            pyro.sample("part", dist.Uniform(x.new_zeros(()), top))
            pyro.sample("share", dist.Dirichlet(x.new_ones(3)))


def test_supports_that_are_not_the_whole_line():
    """Against importance sampling from the prior, which knows of no map."""
    x = torch.tensor([0.2, 1.5, 4.0], dtype=torch.float64)
    pair = pv.Pair(Bounded(), BoundedGuide())
    result = pv.posterior(
        pair,
        x,
        num_samples=100,
        num_chains=16,
        warmup=80,
        num_leapfrogs=8,
        target_acceptance=0.9,
        progress=False,
    )
    generator = torch.Generator().manual_seed(0)
    gamma = torch.distributions.Gamma(torch.tensor(2.0, dtype=torch.float64), 1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        top = gamma.sample((200_000,))
        share = torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64)).sample((200_000,))
    part = top * torch.rand(200_000, generator=generator, dtype=torch.float64)
    for datum, value in enumerate(x):
        weight = (-0.5 * ((value - part - share[:, 0]) / 0.5).square()).softmax(0)
        for site, draws in (("top", top), ("part", part), ("share", share)):
            exact = torch.einsum("s,s...->...", weight, draws)
            found = torch.from_numpy(result["posterior"][site].to_numpy())[:, :, datum].flatten(0, 1)
            scale = found.std(0)
            assert bool(((found.mean(0) - exact).abs() < 0.25 * scale + 0.02).all()), (site, datum)
    assert float(result["sample_stats"]["r_hat"].max()) < 1.1


class Mixture(nn.Module):
    """k, then z | k, then x | z; the guide has z alone."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            k = pyro.sample("k", dist.Categorical(logits=x.new_tensor([0.0, 1.0])))
            z = pyro.sample("z", dist.Normal(torch.where(k == 0, -2.0, 2.0).to(x), 1.0))
            pyro.sample("x", dist.Normal(z, 0.7), obs=x)


class OnlyZ(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(0.7 * x, 1.0))


class KAndZ(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            k = pyro.sample("k", dist.Categorical(logits=torch.stack([-x, x], -1)))
            pyro.sample("z", dist.Normal(0.5 * x + 0.3 * k, 1.0))


@pytest.mark.parametrize("guide", [OnlyZ, KAndZ])
@pytest.mark.parametrize("method", ["hmc", "anneal", "resample"])
def test_finite_latents_are_summed_over_and_drawn(guide, method):
    x = torch.tensor([-1.0, 0.3, 2.5], dtype=torch.float64)
    prior = torch.tensor([0.0, 1.0], dtype=torch.float64).log_softmax(0)
    means = torch.tensor([-2.0, 2.0], dtype=torch.float64)
    log_joint = prior + dist.Normal(means, math.sqrt(1 + 0.49)).log_prob(x[:, None])
    posterior = log_joint.softmax(-1)
    conditional = (x[:, None] / 0.49 + means) / (1 / 0.49 + 1)
    result = pv.posterior(
        pv.Pair(Mixture(), guide()), x, method=method, num_samples=150 if method == "hmc" else 600,
        warmup=40, num_leapfrogs=5, num_temperatures=30, progress=False,
    )  # fmt: skip
    k, z = (torch.from_numpy(result["posterior"][site].to_numpy()).flatten(0, 1) for site in "kz")
    tolerance = 4 / math.sqrt(min(float(result["sample_stats"]["ess"].min()), 600))
    assert torch.allclose(k.double().mean(0), posterior[:, 1], atol=0.5 * tolerance)
    assert torch.allclose(z.mean(0), (posterior * conditional).sum(-1), atol=2 * tolerance)


def test_several_sites_and_an_inner_plate():
    oracle = chain()
    x, mask = oracle.batch
    z, stats = drawn(oracle.pair, x, mask, site="bottom", num_samples=150, warmup=40, num_leapfrogs=4)
    weight = float(oracle.pair.model.weight.detach())
    variance = 1 + weight**2
    kept = mask.double()
    precision = 1 / variance + 4 * kept.sum(-1)
    mean = 4 * (x * kept).sum(-1) / precision
    error = (z.mean(0) - mean) / (1 / precision / float(stats["ess"].min())).sqrt()
    assert float(error.abs().max()) < 4
    assert torch.allclose(z.var(0), 1 / precision, rtol=0.25)


class Flat(nn.Module):
    """Its net takes one datum's latents a row, and no dims to the left."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.view(len(x), 2), 0.5).to_event(1), obs=x)


class FlatGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(0.5 * x, 1.0).to_event(1))


@pytest.mark.parametrize("method", ["hmc", "anneal"])
def test_programs_whose_particles_run_one_by_one(method):
    x = torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
    pair = pv.Pair(Flat(), FlatGuide(), vectorize=False)
    count = 100 if method == "hmc" else 24
    options = {"num_samples": count, "warmup": 30, "num_leapfrogs": 3, "num_temperatures": 3}
    z, stats = drawn(pair, x, method=method, **options)
    assert torch.allclose(z.mean(0), 0.8 * x, atol=5 * math.sqrt(0.2 / float(stats["ess"].min())))


def test_the_seed_decides_and_the_callers_numbers_stay():
    oracle, x = linear_gaussian()
    state = torch.get_rng_state()
    options = {"num_samples": 5, "warmup": 5, "num_leapfrogs": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, _ = drawn(oracle.pair, x, seed=1, **options)
        second, _ = drawn(oracle.pair, x, seed=1, **options)
        third, _ = drawn(oracle.pair, x, seed=2, **options)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), state)


def test_too_short_a_run_is_said():
    oracle, x = linear_gaussian(0.05, 6.0)
    with pytest.warns(UserWarning, match="R-hat is above") as told:
        pv.posterior(oracle.pair, x, num_samples=4, warmup=1, num_leapfrogs=1, progress=False)
    assert told[0].filename == __file__  # the line that asked, and not one of ours
    with pytest.warns(UserWarning, match="k-hat is above"):
        pv.posterior(oracle.pair, x, method="resample", num_samples=40, progress=False)


class Around(nn.Module):
    """x within 1 of z, so that x = 50 cannot be."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Uniform(z - 1, z + 1, validate_args=False), obs=x)


class OneNormal(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0).expand([len(x)]))


def test_impossible_data_are_named_where_weights_are_asked_for():
    pair, x = pv.Pair(Around(), OneNormal()), torch.tensor([0.0, 50.0, 0.5])
    short = {"num_samples": 20, "num_temperatures": 3, "num_proposals": 50, "progress": False}
    for method in ("importance", "resample", "anneal"):
        with pytest.raises(pv.PairError, match="1 of 3 data, the first of them number 1, have the density 0"):
            pv.posterior(pair, x, method=method, **short)
    with pytest.warns(UserWarning, match="k-hat is above"):
        draws = pv.posterior(pair, x, method="guide", num_samples=20, progress=False)
    assert draws["sample_stats"]["k_hat"].values[1] == math.inf
    assert draws["sample_stats"]["ess"].values[1] == 0


class Shared(nn.Module):
    def forward(self, x):
        level = pyro.sample("level", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(level, 1.0), obs=x)


class SharedGuide(nn.Module):
    def forward(self, x):
        pyro.sample("level", dist.Normal(x.mean(), 1.0))


class Counts(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            n = pyro.sample("n", dist.Poisson(x.new_ones(())))
            pyro.sample("x", dist.Normal(n, 1.0), obs=x)


class CountsGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("n", dist.Poisson(x.abs() + 0.5))


class Noisy(nn.Module):
    """Its density is another one at every run."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z + torch.randn_like(x), 1.0), obs=x)


class NoisyGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x, 1.0))


class Library(nn.Module):
    """Reads the total of its data outside obs=."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Poisson(x.sum(-1, keepdim=True) * z.softmax(-1)).to_event(1), obs=x)


class LibraryGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal((x + 1).log(), 1.0).to_event(1))


class Sums(nn.Module):
    """Observes what is no entry of its data."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x.sum(-1))


ONE_SEEN = {"observed": torch.tensor([True, False])}
REFUSED = [
    (Shared(), SharedGuide(), (3,), {}, r"\['level'\] outside the plate 'data' are .*method='guide'"),
    (Shared(), SharedGuide(), (3,), {"method": "resample"}, r"shared by all data, .*method='guide'"),
    (Counts(), CountsGuide(), (3,), {}, r"site 'n' is discrete and has too many.*method='importance'"),
    (Noisy(), NoisyGuide(), (3,), {}, r"differs between two runs of the model"),
    (Library(), LibraryGuide(), (3, 2), ONE_SEEN, r"reads them outside obs="),
    (Sums(), LibraryGuide(), (3, 2), ONE_SEEN, r"of 'x', such as that at \(0, 1\), are the data of no"),
]


@pytest.mark.parametrize(("model", "guide", "shape", "options", "message"), REFUSED)
def test_a_refusal_names_the_site_and_the_way_out(model, guide, shape, options, message):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).round() + 1.0
    with pytest.raises(PairError, match=message):
        pv.posterior(pv.Pair(model, guide), x, progress=False, **options)


WRONG = [
    ({"method": "nuts"}, "method must be one of"),
    ({"num_samples": 0}, "num_samples"),
    ({"num_chains": 1.5}, "num_chains"),
    ({"start": "zero", "method": "anneal"}, "start must be"),
    ({"target_acceptance": 1.0}, "target_acceptance must lie"),
    ({"observed": torch.ones(6, 2)}, "must be boolean"),
    ({"observed": torch.ones(6, 3, dtype=torch.bool)}, r"expected shape \(6, 2\), got \(6, 3\)"),
    ({"observed": {"y": torch.ones(6, 2, dtype=torch.bool)}}, r"names 'y', but the programs take \['x'\]"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_argument_is_named(options, message):
    oracle, x = linear_gaussian()
    with pytest.raises(ValueError, match=message):
        pv.posterior(oracle.pair, x, progress=False, **options)
