"""Predictive checks and two-sample tests, where the answers are known."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torch.distributions import Normal

import ppl_vae as pv
from ppl_vae import Pair, PairError, evaluate
from ppl_vae.evaluate.kernels import gaussian, paired_terms, squared_discrepancy
from ppl_vae.testing import oracles
from tests.conftest import SIGMAS
from tests.evaluate.programs import GlobalGuide, GlobalModel, TimeGuide, TimeModel, stretched_pair

pytestmark = pytest.mark.usefixtures("double")


class Line(nn.Module):
    """x ~ N(input or 0, 1) in d dimensions; its latent says nothing."""

    def __init__(self, is_guide=False):
        super().__init__()
        self.is_guide = is_guide

    def forward(self, x, mean=None):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            if not self.is_guide:
                loc = torch.zeros_like(x) if mean is None else mean[:, None].expand_as(x)
                pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


def line():
    return Pair(Line(), Line(True))


def test_statistics_of_data_of_the_model_are_where_the_replicates_are():
    pair = stretched_pair(1.0)
    pair.remember((torch.zeros(2, 5),))
    small = []
    for seed in range(12):
        x = pv.sample(pair, 100, seed=100 + seed).value
        small += evaluate.predictive_check(pair, x, num_replicates=39, seed=seed).p_values.tolist()
    assert min(small) > 0
    assert sum(p <= 0.1 for p in small) < 0.1 * len(small) + SIGMAS * math.sqrt(0.09 * len(small))


def test_p_values_count_replicates_on_both_sides():
    check = evaluate.predictive_check(line(), torch.full((10, 2), 30.0), num_replicates=19)
    found = dict(zip(check.names, check.p_values.tolist()))
    assert found["mean"] == pytest.approx(2 / 20)  # beyond all of them
    assert found["standard deviation"] == pytest.approx(2 / 20)  # below all of them
    assert found["share of zeros"] == 1  # the same in all of them
    assert check.replicated.shape == (19, 6)
    assert "10 data beside 19 replicates" in str(check)


def test_ones_own_statistics():
    x = torch.randn(40, 3)
    check = evaluate.predictive_check(line(), x, {"row": lambda x: x.mean(0), "top": torch.max})
    assert check.names == ("row[0]", "row[1]", "row[2]", "top")
    torch.testing.assert_close(check.observed[:3], x.mean(0))
    error = SIGMAS * check.replicated[:, :3].std(0) / math.sqrt(len(check.replicated))
    assert (check.replicated[:, :3].mean(0).abs() < error).all()
    assert evaluate.predictive_check(line(), x, torch.mean).names == ("mean",)
    for wrong, match in (
        ({"nothing": 3}, "must be a function"),
        ([], "empty"),
        (lambda x: x.sum() / 0, "must be a finite number"),
        ([torch.mean, torch.mean], "different names"),
        ("mean", "must be functions of a batch"),
        (lambda x: None, "must be a number, or several, got None"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate.predictive_check(line(), x, wrong)


def test_replicates_have_the_datums_own_inputs_and_holes():
    x, mean = torch.randn(200, 2), torch.arange(200.0)
    check = evaluate.predictive_check(line(), (x + mean[:, None], mean), num_replicates=39)
    assert (check.p_values > 2 / 40).all()
    check = evaluate.predictive_check(line(), (x, mean), num_replicates=39)
    assert check.p_values[0] == pytest.approx(2 / 40)

    pair = line()
    pair.model.takes_missing = True
    x[::2, 0] = torch.nan

    def seen(x):
        return (~x.isnan()).sum(0).double()

    check = evaluate.predictive_check(pair, x, [seen], num_replicates=5)
    assert (check.replicated == torch.tensor([100.0, 200.0])).all()


def test_padding_is_no_data():
    """Sequences of unequal lengths: what a mask leaves out is in no statistic and shown to no classifier."""
    oracle = oracles.chain()
    mask = torch.rand(200, 2) < 0.6
    mask[:, 0] = True
    with torch.no_grad():
        covariance = oracle.pair.model.weight.square() + 1 + 0.25 * torch.eye(2)
    x = dist.MultivariateNormal(torch.zeros(2), covariance).sample((200,))
    x[~mask] = 50.0
    check = evaluate.predictive_check(oracle.pair, (x, mask), num_replicates=39)
    assert check.observed[3] < 20
    assert (check.p_values > 2 / 40).all()
    tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=0)
    result = evaluate.two_sample(oracle.pair, (x, mask), classifier=tree)
    assert result.p_value > 1e-3
    assert math.isnan(result.discrepancy)


def test_latents_of_the_guide_make_the_decoder_alone_answer():
    """The model's z are far from the guide's: from the prior alone that is seen."""
    pair = Pair(TimeModel(), TimeGuide())
    x = 4 + torch.randn(100, 4)
    assert evaluate.predictive_check(pair, x, torch.mean, num_replicates=19).p_values < 0.11
    through = evaluate.predictive_check(pair, x, torch.mean, num_replicates=19, latents="guide")
    assert abs(float(through.replicated.mean()) - 0.8 * float(x.mean())) < 0.1
    with pytest.raises(ValueError, match="'prior' or the 'guide', got 'posterior'"):
        evaluate.predictive_check(pair, x, latents="posterior")


def test_some_of_the_data_at_random():
    check = evaluate.predictive_check(line(), torch.randn(500, 2), num_replicates=2, num_data=70)
    assert check.num_data == 70


@pytest.mark.parametrize("mean", [0.5, 2.0])
def test_the_best_classifier_of_two_normals_is_right_as_often_as_theory_says(mean):
    """N(0, 1) against N(m, 1): Phi(m / 2)."""
    x = torch.randn(4000, 1) + mean
    result = evaluate.two_sample(
        line(), x, classifier=LinearDiscriminantAnalysis(), num_data=None, num_permutations=19
    )
    theory = float(Normal(0.0, 1.0).cdf(torch.tensor(mean / 2)))
    assert abs(result.accuracy - theory) < SIGMAS * result.standard_error
    assert result.p_value < 1e-6
    assert result.classifier == "LinearDiscriminantAnalysis"
    assert result.discrepancy_p_value == 1 / 20


def test_the_discrepancy_of_two_normals():
    """E k(x, y) under a Gaussian kernel is a normal density's integral, known in closed form."""
    n, d, h, m, s = 1500, 2, 1.3, 0.8, 1.5
    x, y = torch.randn(n, d), s * torch.randn(n, d) + m

    def mean_of_kernel(variance, apart):
        return (h**2 / (h**2 + variance)) ** (d / 2) * math.exp(-0.5 * apart / (h**2 + variance))

    theory = mean_of_kernel(2, 0) + mean_of_kernel(2 * s**2, 0) - 2 * mean_of_kernel(1 + s**2, d * m**2)
    terms = paired_terms(gaussian(x, x, h), gaussian(y, y, h), gaussian(x, y, h))
    error = 2 * terms.mean(1).std() / math.sqrt(n)  # of a U-statistic
    assert abs(squared_discrepancy(terms) - theory) < SIGMAS * error
    assert theory > 3 * error
    swapped = terms.clone()
    swapped[0], swapped[:, 0] = -terms[0], -terms[:, 0]
    first, second = torch.cat([y[:1], x[1:]]), torch.cat([x[:1], y[1:]])
    again = paired_terms(gaussian(first, first, h), gaussian(second, second, h), gaussian(first, second, h))
    torch.testing.assert_close(again, swapped)


def test_p_values_of_the_same_law_are_uniform():
    values = []
    asked = {"classifier": LinearDiscriminantAnalysis(), "num_folds": 3, "num_permutations": 19}
    for seed in range(100):
        torch.manual_seed(seed)
        result = evaluate.two_sample(line(), torch.randn(60, 2), seed=seed, **asked)
        values.append((result.p_value, result.discrepancy_p_value))
    for p in torch.tensor(values).T:
        for level in (0.1, 0.3):
            error = math.sqrt(level * (1 - level) / len(values))
            assert (p <= level + 1e-9).double().mean() < level + SIGMAS * error
    assert torch.tensor(values)[:, 1].mean() == pytest.approx(0.5, abs=SIGMAS * 0.29 / 10)


def test_a_conditional_model_is_asked_with_its_inputs():
    """x of another input has the right law by itself, and not together with it."""
    tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=0)
    mean = 3.0 * torch.randn(400)
    x = torch.randn(400, 1) + mean[torch.randperm(400), None]
    assert evaluate.two_sample(line(), (x, mean), classifier=tree).p_value < 1e-6
    x = torch.randn(400, 1) + mean[:, None]
    assert evaluate.two_sample(line(), (x, mean), classifier=tree).p_value > 1e-3


def test_refusals():
    pair = Pair(GlobalModel(), GlobalGuide())
    with pytest.raises(PairError, match=r"outside the plate 'data'"):
        evaluate.two_sample(pair, torch.randn(30))
    with pytest.raises(ValueError, match="bandwidth must be positive, got -1"):
        evaluate.two_sample(line(), torch.randn(20, 2), bandwidth=-1)
    with pytest.raises(ValueError, match="5 folds need 10 data or more, got 9"):
        evaluate.two_sample(line(), torch.randn(9, 2))
    assert evaluate.predictive_check(pair, torch.randn(30), num_replicates=3).num_data == 30
