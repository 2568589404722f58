"""Anomaly scores against their closed forms on the linear-Gaussian pair, and areas against scikit-learn's."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.distributions import kl_divergence

from ppl_vae import Pair, PairError, evaluate
from ppl_vae.evaluate.areas import area_under_roc, average_precision
from tests.conftest import SIGMAS
from tests.evaluate.programs import GlobalGuide, GlobalModel
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel

pytestmark = pytest.mark.usefixtures("double")

K = 200


def scored(pair, x, method="likelihood", **options):
    return evaluate.anomaly(pair, x, method, num_particles=K, **options)


def exact(pair, x):
    with torch.no_grad():
        return -pair.model.log_evidence(x)


def test_the_likelihood_is_exact_under_the_exact_guide():
    pair, x = make_pair(), 2 * torch.randn(12, 5)
    torch.testing.assert_close(scored(pair, x).score, exact(pair, x))
    torch.testing.assert_close(scored(pair, x, "elbo").score, exact(pair, x))
    assert scored(pair, x, "elbo").remark == ""


def test_the_regret_is_the_divergence_from_the_posterior():
    pair, x = make_pair(), torch.randn(8, 5)
    torch.testing.assert_close(
        scored(pair, x, "regret", num_steps=20).score, torch.zeros(8), atol=1e-6, rtol=0
    )
    pair = make_pair(perturb=0.15)
    with torch.no_grad():
        kl = kl_divergence(pair.guide.posterior(x), pair.model.posterior(x))
    result = evaluate.anomaly(pair, x, "regret", num_particles=1000, num_steps=100)
    # the log-weights' variance is about twice the divergence
    assert ((result.score - kl).abs() < SIGMAS * (2 * 2 * kl / 1000).sqrt() + 2e-3).all()
    assert kl.max() > 2 * kl.min()


def test_typicality_is_the_distance_from_the_entropy():
    pair, x = make_pair(), torch.randn(10, 5)
    minus_log_p = exact(pair, x)
    normal = normal_data(pair, 4000)
    entropy = float(exact(pair, normal).mean())
    result = scored(pair, x, "typicality", entropy=entropy)
    torch.testing.assert_close(result.score, (minus_log_p - entropy).abs())
    torch.testing.assert_close(scored(pair, x, "typicality", reference=normal).score, result.score)
    # -log p is half a chi-square and a constant
    assert abs(entropy - float(evidence_of(pair).entropy())) < SIGMAS * math.sqrt(5 / 2 / 4000)
    # shrunk towards the mean a datum is likelier than most, and not typical
    centre = scored(pair, normal.mean(0, keepdim=True), "typicality", entropy=entropy)
    assert centre.score.item() > result.score.median().item()


def evidence_of(pair):
    """p(x), from its mean and its curvature, which a normal density has the same everywhere."""
    with torch.enable_grad():
        zero = torch.zeros(5, requires_grad=True)
        log_p = lambda x: pair.model.log_evidence(x[None])[0]  # noqa: E731
        precision = -torch.autograd.functional.hessian(log_p, zero)
        gradient = torch.autograd.functional.jacobian(log_p, zero)
    covariance = torch.linalg.inv(precision)
    return torch.distributions.MultivariateNormal(covariance @ gradient, covariance)


def normal_data(pair, size):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return evidence_of(pair).sample((size,))


def test_ratio_and_waic_of_several_pairs():
    x = torch.randn(10, 5)
    pair, simpler, third = make_pair(), make_pair(latent_dim=1, seed=2), make_pair(seed=5)
    values = torch.stack([-exact(each, x) for each in (pair, simpler, third)])
    torch.testing.assert_close(scored(pair, x, "ratio", others=simpler).score, values[1] - values[0])
    expected = values.var(0) - values.mean(0)
    torch.testing.assert_close(scored(pair, x, "waic", others=[simpler, third]).score, expected)


def test_anomalies_are_found_and_told_apart():
    pair = make_pair()
    normal = normal_data(pair, 150)
    x = torch.cat([normal, 3 * torch.randn(50, 5)])
    labels = torch.arange(200) >= 150
    result = scored(pair, x, labels=labels)
    assert result.auroc == pytest.approx(roc_auc_score(labels, exact(pair, x)))
    assert result.aupr == pytest.approx(average_precision_score(labels, exact(pair, x)))
    assert result.auroc > 0.8
    assert scored(pair, x).with_labels(labels).aupr == result.aupr
    for line in ("200 data, -log p(x)", "AUROC", "0.250 for a random score"):
        assert line in str(result)


def test_areas_of_ties_infinities_and_their_error():
    random = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        strange = torch.arange(60) < 20
        score = (torch.randn(60, generator=random) + strange).mul(2).round()
        area, error = area_under_roc(score, strange)
        assert area == pytest.approx(roc_auc_score(strange, score))
        found.append((area, error))
    areas, errors = torch.tensor(found).T
    assert float(errors.mean()) == pytest.approx(float(areas.std()), rel=0.2)
    strange = torch.tensor([True, False, True, False])
    score = torch.tensor([math.inf, 0.0, 2.0, -math.inf])
    assert area_under_roc(score, strange)[0] == 1
    assert average_precision(score, strange) == 1
    assert area_under_roc(-score, strange)[0] == 0


def test_labels_of_a_frame_go_by_its_rows():
    pair, x = make_pair(), torch.zeros(4, 5)
    x[:2] = 6.0
    named = pd.Series([True, True, False, False], index=["a", "b", "c", "d"])
    assert scored(pair, x, labels=named).auroc == 1.0
    turned = pd.Series([1, 1, 0, 0], index=[3, 2, 1, 0])
    assert scored(pair, x, labels=turned).auroc == 1.0


def test_a_score_of_a_lower_bound_says_so():
    pair = make_pair(perturb=0.8)
    assert "lower bound" in str(evaluate.anomaly(pair, torch.randn(20, 5), num_particles=50))


def test_refusals():
    pair, x = make_pair(), torch.randn(6, 5)
    for options, match in (
        ({"method": "odd"}, "method must be one of"),
        ({"method": "typicality"}, "give reference= such data, or entropy="),
        ({"method": "ratio"}, "needs one simpler pair"),
        ({"method": "waic"}, "needs other runs"),
        ({"others": pair}, "others is for ratio and waic"),
        ({"entropy": 1.0}, "for typicality"),
        ({"labels": torch.arange(6)}, r"labels must be \(6,\)"),
        ({"labels": ["a"] * 6}, "labels must be numbers"),
        ({"method": "typicality", "entropy": math.nan}, "entropy must be a finite number"),
        ({"labels": [0, 1]}, r"labels must be \(6,\)"),
        ({"labels": torch.zeros(6)}, "must have both"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate.anomaly(pair, x, **options)
    with pytest.raises(TypeError, match=r"expected a ppl_vae\.Pair, got int"):
        evaluate.anomaly(pair, x, "waic", others=3)
    shared = Pair(GlobalModel(), GlobalGuide())
    for method in ("likelihood", "regret"):
        with pytest.raises(PairError, match="mean"):
            evaluate.anomaly(shared, torch.randn(5), method)
    with pytest.raises(PairError, match="site 'z'"):
        evaluate.anomaly(Pair(BernoulliModel(), BernoulliGuide()), torch.randn(4), "regret")
