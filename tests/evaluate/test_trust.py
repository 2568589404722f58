"""Where k-hat says that log p(x) is not known, every table and file calls it a lower bound."""

from __future__ import annotations

import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import comparison, data, estimators, evaluate, guides, models, nets
from ppl_vae.cli.report import judge
from ppl_vae.evaluate.k_hat import k_hat_limit

DIMS = 20


class Model(nn.Module):
    """z ~ N(0, I), x | z ~ N(z, 1): the posterior is N(x / 2, 1 / 2)."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(DIMS))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(DIMS), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + self.shift, 1.0).to_event(1), obs=x)


class Guide(nn.Module):
    """The posterior, of `width` times its width."""

    def __init__(self, width):
        super().__init__()
        self.width = nn.Parameter(torch.tensor(width))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, self.width * 0.5**0.5).to_event(1))


def pair_of(width):
    return pv.Pair(Model(), Guide(width))


def batch():
    return torch.randn(40, DIMS, generator=torch.Generator().manual_seed(0)) * 2**0.5


def test_the_limit_is_that_of_the_number_of_particles():
    assert [round(k_hat_limit(size), 3) for size in (30, 100, 1000, 2200, 10**6)] == [
        0.323,
        0.5,
        0.667,
        0.7,
        0.7,
    ]


def test_a_narrow_guide_gives_a_lower_bound():
    found = evaluate.log_likelihood(pair_of(0.5), batch(), 300, progress=False)
    exact = dist.Normal(0.0, 2**0.5).log_prob(batch()).sum(-1).double()
    assert found.value < float(exact.mean()) - 1  # far below, by a "Monte Carlo error" of some hundredths
    assert found.is_lower_bound
    assert found.share_unreliable > 0.9
    assert math.isnan(found.monte_carlo_standard_error)
    shown = str(found)
    assert "Monte Carlo error" not in shown
    assert "-log p(x) ≤" in shown
    assert "! a lower bound on log p(x), K = 300: k-hat above 0.6 for" in shown
    assert shown.splitlines()[1].split("! ")[1] in str(
        evaluate.summary(pair_of(0.5), batch(), 300, progress=False)
    )


def test_a_good_guide_gives_a_value_and_its_error():
    found = evaluate.log_likelihood(pair_of(1.02), batch(), 300, progress=False)
    assert not found.is_lower_bound
    assert 0 < found.monte_carlo_standard_error < 0.01
    assert ", Monte Carlo error" in str(found)
    assert "!" not in str(found)
    assert "≤" not in str(found)


def test_too_few_particles_for_k_hat_give_a_lower_bound():
    found = evaluate.log_likelihood(pair_of(1.02), batch(), 20, progress=False)
    assert found.is_lower_bound
    assert math.isnan(found.monte_carlo_standard_error)
    assert "a lower bound on log p(x), K = 20: k-hat needs 30 particles" in str(found)


@pytest.mark.parametrize("width", [0.5, 1.02])
def test_the_command_lines_summary_says_so(width):
    bad = width == 0.5
    split = data.Split.from_tensor(batch())
    judgement = judge(pair_of(width), split, seed=0, progress=False, num_particles=300)
    assert ("a lower bound on log p(x)" in str(judgement)) == bad
    numbers = json.loads(json.dumps(judgement.numbers(), allow_nan=False))
    assert numbers["log_likelihood_is_lower_bound"] == bad
    assert (numbers["log_likelihood_monte_carlo_standard_error"] is None) == bad
    assert numbers["k_hat_limit"] == pytest.approx(k_hat_limit(300))
    assert (numbers["k_hat_share_above_limit"] > 0.1) == bad


def test_the_summary_anneals_some_where_k_hat_is_too_high():
    """The evidence is known: importance sampling is nats below it, and annealing makes up for them."""
    x = batch()
    exact = float(dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1).double().mean())
    found = evaluate.summary(pair_of(0.5), x, 300, progress=False)
    assert found.shortfall is not None
    assert found.shortfall.log_likelihood == pytest.approx(found.log_likelihood.value + found.shortfall.value)
    assert exact - found.log_likelihood.value > 1
    assert exact - 0.5 < found.shortfall.log_likelihood < exact + 4 * found.shortfall.standard_error
    assert "annealed, -log p(x) ≤" in str(found)
    good = evaluate.summary(pair_of(1.02), x, 300, progress=False)
    assert good.shortfall is None
    assert "annealed" not in str(good)
    assert evaluate.summary(pair_of(0.5), x, 300, method="importance", progress=False).shortfall is None
    with pytest.raises(ValueError, match="'auto', 'importance' or 'ais', got 'best'"):
        evaluate.summary(pair_of(0.5), x, 300, method="best", progress=False)


class Counted(nn.Module):
    """A latent count without an end, which no annealing moves."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Poisson(self.rate.expand(DIMS)).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


class CountedGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Poisson(x.new_full((DIMS,), 2.0)).to_event(1))


def test_a_pair_that_cannot_be_annealed_says_why():
    found = evaluate.summary(pv.Pair(Counted(1.0), CountedGuide()), batch(), 300, progress=False)
    assert found.shortfall is not None
    assert "'z'" in found.shortfall.refusal
    assert "not annealed" in str(found)


def test_an_inference_gap_against_such_an_evidence_is_at_least_so_large():
    pair = pv.Pair(Model(), guides.MeanField(nets.MLPEncoder((DIMS,), DIMS, (4,))))
    found = evaluate.inference_gap(pair, batch(), 100, num_steps=0, progress=False)
    assert found.why_lower_bound.startswith("k-hat above 0.5 for")
    assert "log p(x) ≥" in str(found)
    assert "approximation gap ≥" in str(found)
    known = models.LinearGaussian(2, 3)
    exact = evaluate.inference_gap(
        pv.Pair(known, guides.MeanField(nets.MLPEncoder((3,), 2, (4,)))), torch.randn(5, 3), 10, num_steps=0,
        progress=False,
    )  # fmt: skip
    assert not exact.why_lower_bound
    assert "≥" not in str(exact)


@pytest.mark.parametrize("width", [0.5, 1.02])
def test_comparisons_mark_it(width):
    bad = width == 0.5
    point = comparison.at_point(
        pair_of(width), [estimators.IWAE], batch()[:4], num_particles=[2], draws=10, reference_draws=0,
        evidence_particles=300, progress=False,
    )  # fmt: skip
    assert ("log p(x) ≥" in str(point)) == ("gap ≥" in str(point)) == bad
    assert math.isnan(point.table["gap_standard_error"][0]) == bad
    point.plot_bounds()
    after = comparison.after_training(
        lambda seed: pair_of(width), [estimators.IWAE(2)], data.from_tensors(batch()), epochs=1, seeds=[0],
        learning_rate=1e-9, judge_particles=300, judge_on=batch(), progress=False, device="cpu",
    )  # fmt: skip
    assert bool(after.table["lower_bound"][0]) == bad
    assert ("! a lower bound on log p(x)" in str(after)) == ("≤ " in str(after)) == bad
    assert ("k-hat > 0.6") in str(after)
    labels = [text.get_text() for text in after.plot_scores().get_yticklabels()]
    assert labels == ["IWAE(2) !" if bad else "IWAE(2)"]
