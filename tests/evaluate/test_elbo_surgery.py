"""ELBO surgery: the identities, the closed forms of known mixtures, and the sites that are left out."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ppl_vae import Pair, evaluate
from ppl_vae.core.sites import PairError
from tests.conftest import SIGMAS
from tests.evaluate.programs import ChainGuide, ChainModel, GlobalGuide, GlobalModel, TimeGuide, TimeModel
from tests.kl.programs import read_off
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel

# three posteriors of two dimensions: two overlap, one is far off, and their means are correlated
X = torch.tensor([[0.1, 0.3, 0.9, 0.5], [-0.4, -0.2, 1.0, 0.3], [3.0, 3.5, 0.4, 0.6]], dtype=torch.float64)


def test_the_identities_hold_at_the_same_draws(double):
    result = evaluate.elbo_surgery(make_pair(perturb=0.1), torch.randn(40, 5), 3, batch_size=7)
    site = result.sites["z"]
    assert site.kl.value == pytest.approx(site.mutual_information.value + site.marginal_kl.value)
    assert site.marginal_kl.value == pytest.approx(
        site.total_correlation.value + site.dimension_wise_kl.value
    )
    assert site.dimension_wise_kl.value == pytest.approx(float(site.kl_by_dimension.sum()))
    assert result.elbo.value == pytest.approx(result.reconstruction.value - site.kl.value)
    assert (result.num_data, result.num_draws) == (40, 120)


def exact_terms():
    """Mutual information, marginal KL, total correlation of X's mixture, by quadrature over the plane."""
    grid = torch.linspace(-9, 10, 381, dtype=torch.float64)
    area = float(grid[1] - grid[0]) ** 2
    plane = torch.cartesian_prod(grid, grid)
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    joint = MixtureSameFamily(Categorical(even), Independent(Normal(X[:, :2], X[:, 2:]), 1)).log_prob(plane)
    single = sum(
        MixtureSameFamily(Categorical(even), Normal(X[:, j], X[:, 2 + j])).log_prob(plane[:, j])
        for j in range(2)
    )
    prior = Normal(0.0, 1.0).log_prob(plane).sum(-1)
    weight = joint.exp() * area
    entropy = -float((weight * joint).sum())
    conditional = float(Normal(X[:, :2], X[:, 2:]).entropy().sum(-1).mean())
    return {
        "mutual_information": entropy - conditional,
        "marginal_kl": float((weight * (joint - prior)).sum()),
        "total_correlation": float((weight * (joint - single)).sum()),
    }


def test_a_known_mixture(double):
    site = evaluate.elbo_surgery(read_off(), X, 10_000).sites["z"]
    # the error is that of the draws alone, which runs of a twentieth of the draws show
    runs = [evaluate.elbo_surgery(read_off(), X, 500, seed=seed).sites["z"] for seed in range(1, 21)]
    for name, exact in exact_terms().items():
        values = torch.tensor([getattr(run, name).value for run in runs])
        error = float(values.std()) / math.sqrt(20)
        assert abs(getattr(site, name).value - exact) < 6.5 * error, name
    assert site.mutual_information.value < math.log(3)


def test_closed_form_of_the_kl_and_its_standard_error(double):
    torch.manual_seed(1)
    x = torch.cat([torch.randn(400, 2), torch.rand(400, 2) + 0.3], -1)
    result = evaluate.elbo_surgery(read_off(), x).sites["z"]
    exact = torch.distributions.kl_divergence(Normal(x[:, :2], x[:, 2:]), Normal(0.0, 1.0)).sum(-1).mean()
    assert abs(result.kl.value - float(exact)) < SIGMAS * result.kl.standard_error
    assert 0 < result.kl.standard_error < 0.2


def test_a_posterior_that_has_collapsed_has_nothing_left(double):
    x = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(20, 4)
    site = evaluate.elbo_surgery(read_off(), x).sites["z"]
    for part in (site.kl, site.mutual_information, site.total_correlation, site.dimension_wise_kl):
        assert part.value == pytest.approx(0.0, abs=1e-12)


def test_posteriors_far_apart_carry_all_of_log_n(double):
    x = torch.tensor([[100.0 * i, -100.0 * i, 0.1, 0.1] for i in range(8)])
    site = evaluate.elbo_surgery(read_off(), x).sites["z"]
    assert site.mutual_information.value == pytest.approx(math.log(8))
    # one number tells the other: log 8 is shared
    assert site.total_correlation.value == pytest.approx(math.log(8))


def test_some_of_the_draws_against_all_of_the_aggregate(double):
    x = torch.cat([2 * torch.randn(300, 2), torch.full((300, 2), 0.5)], -1)
    whole = evaluate.elbo_surgery(read_off(), x).sites["z"]
    part = evaluate.elbo_surgery(read_off(), x, num_draws=100)
    assert part.num_draws == 100
    assert part.num_data == 300
    found = part.sites["z"].mutual_information
    assert abs(found.value - whole.mutual_information.value) < SIGMAS * found.standard_error


def test_a_discrete_code(double):
    pair, x = Pair(BernoulliModel(), BernoulliGuide()), torch.randn(5)
    site = evaluate.elbo_surgery(pair, (x,), 4000).sites["z"]
    p = pair.guide.posterior(x).base_dist.probs.detach()
    codes = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0))
    each = torch.distributions.Bernoulli(p).log_prob(codes[:, None]).sum(-1).exp()
    entropy = torch.distributions.Categorical(each.mean(1)).entropy()
    exact = entropy - torch.distributions.Bernoulli(p).entropy().sum(-1).mean()
    assert site.mutual_information.value == pytest.approx(float(exact), abs=0.02)


def test_sites_without_an_aggregate_are_left_out_with_the_reason(double):
    result = evaluate.elbo_surgery(Pair(TimeModel(), TimeGuide()), torch.randn(6, 4))
    assert set(result.sites) == {"z"}
    assert result.left_out == {"h": "it is in the plates ['time']"}
    assert "not split: it is in the plates ['time']" in str(result)
    with pytest.raises(PairError, match=r"none.*'z': its prior is not one.*'h': the guide draws it given"):
        evaluate.elbo_surgery(Pair(ChainModel(), ChainGuide()), (torch.randn(6),))
    with pytest.raises(PairError, match=r"\['mean'\] are outside the plate 'data'.*evaluate\.bounds"):
        evaluate.elbo_surgery(Pair(GlobalModel(), GlobalGuide()), (torch.randn(6),))


def test_a_prior_that_looks_at_the_data_is_left_out_also_across_batches(double):
    class Conditional(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(x, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    class Guide(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(x, 0.5))

    with pytest.raises(PairError, match="'z': its prior is not one for all data"):
        evaluate.elbo_surgery(Pair(Conditional(), Guide()), (torch.randn(4),), batch_size=1)


def test_a_seed_repeats_and_the_callers_random_numbers_stay(double):
    pair, x = make_pair(perturb=0.1), torch.randn(10, 5)
    before = torch.get_rng_state()
    first, again = (evaluate.elbo_surgery(pair, x, num_draws=4, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.sites["z"].kl == again.sites["z"].kl
    assert first.elbo == again.elbo


def test_the_table(double):
    text = str(evaluate.elbo_surgery(make_pair(perturb=0.1), torch.randn(12, 5)))
    lines = text.splitlines()
    assert lines[0] == "12 data, 12 draws, nats per datum"
    assert [line.split("  ")[-1] if "log N" in line else "" for line in lines].count(
        f"at most log N = {math.log(12):.2f}"
    ) == 1
    names = [line.strip().split("  ")[0] for line in lines[1:]]
    assert names == [
        "ELBO",
        "reconstruction",
        "KL z",
        "mutual information",
        "marginal KL",
        "total correlation",
        "dimension-wise KL",
    ]


@pytest.mark.parametrize("num_draws", [0, -3, 1.5])
def test_a_number_of_draws_that_makes_no_sense(num_draws):
    with pytest.raises(ValueError, match="num_draws must be a positive whole number or None"):
        evaluate.elbo_surgery(make_pair(), torch.randn(4, 5), num_draws=num_draws)
