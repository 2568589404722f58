"""Every question about quality, over every pair of the zoo: an answer, or a refusal that names why."""

from __future__ import annotations

import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from ppl_vae import evaluate
from tests.zoo import PARTS

every_part = pytest.mark.parametrize("case", PARTS)

SIZE = 20
LADDERS = ("LadderVAE", "DeepLadder", "DiffusionLadder")


def ready(case):
    pair, batch = case.pair().eval(), case.batch(size=SIZE)
    pair.remember(batch)
    return pair, batch


def has_gaps(case, batch):
    """Whether entries of the data are missing, or padding."""
    return bool(batch[0].isnan().any()) or case.second == "length"


@pytest.mark.grid
@every_part
def test_calibration(case):
    pair, batch = ready(case)
    options = {"like": batch} if case.model in ("ConditionalVAE", "DeepMarkov") else {}
    if case.model in ("BayesianDecoderVAE", "Autoencoder"):
        with pytest.raises(ValueError, match=r"outside the plate 'data'|no prior over \['z'\]"):
            evaluate.calibration(pair, SIZE, 5)
        return
    result = evaluate.calibration(pair, SIZE, 5, **options)
    assert any(name.startswith(f"{case.site}[") for name in result.names)
    assert result.ranks.min() >= 0
    assert result.ranks.max() <= 5
    assert str(result)


@pytest.mark.grid
@every_part
def test_criticism(case):
    pair, batch = ready(case)
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    if not case.has_prior:
        for question in (evaluate.predictive_check, evaluate.two_sample):
            with pytest.raises(ValueError, match=r"no prior over \['z'\]"):
                question(pair, batch)
    else:
        check = evaluate.predictive_check(pair, batch, num_replicates=3)
        assert ((check.p_values > 0) & (check.p_values <= 1)).all()
    through = evaluate.predictive_check(pair, batch, num_replicates=3, latents="guide")
    assert through.replicated.isfinite().all()
    if case.model == "BayesianDecoderVAE":
        with pytest.raises(ValueError, match="outside the plate 'data'"):
            evaluate.two_sample(pair, batch)
    elif case.has_prior:
        result = evaluate.two_sample(pair, batch, classifier=tree, num_permutations=9)
        assert 0 <= result.accuracy <= 1
        assert result.discrepancy == pytest.approx(result.discrepancy, nan_ok=has_gaps(case, batch))
    assert torch.is_grad_enabled()


@pytest.mark.grid
@every_part
def test_anomaly(case):
    pair, batch = ready(case)
    asked = {"num_particles": 10, "num_steps": 2}
    ways = {
        "likelihood": {},
        "elbo": {},
        "typicality": {"reference": batch},
        "ratio": {"others": case.pair().eval()},
        "waic": {"others": [case.pair().eval()]},
    }
    for method, options in ways.items():
        no_weights = case.model == "BayesianDecoderVAE" or not case.has_density
        if case.model == "Autoencoder" or (no_weights and method != "elbo"):
            with pytest.raises(ValueError, match=r"has no density|outside the plate 'data'"):
                evaluate.anomaly(pair, batch, method, **asked, **options)
        else:
            assert evaluate.anomaly(pair, batch, method, **asked, **options).score.isfinite().all()
    several = (
        case.model in (*LADDERS, "SemiSupervisedVAE", "BayesianDecoderVAE") and case.guide != "MeanField"
    )
    if several or case.model in ("Autoencoder", "DeepMarkov") or not case.has_density:
        refusal = r"latent sites are \[|outside the plate|has no density|Chain: its parameters are unknown"
        with pytest.raises(ValueError, match=refusal):
            evaluate.anomaly(pair, batch, "regret", **asked)
    else:
        result = evaluate.anomaly(pair, batch, "regret", torch.arange(SIZE) % 2, **asked)
        assert result.score.isfinite().all()
        assert 0 <= result.auroc <= 1


@pytest.mark.grid
@every_part
def test_disentanglement(case):
    """Every pair has codes; those of several sites must be told which."""
    pair, batch = ready(case)
    x, rest = batch[0].repeat(6, *[1] * (batch[0].dim() - 1)), [each.repeat(6) for each in batch[1:]]
    factors = torch.stack([torch.arange(len(x)) % 2, torch.arange(len(x)) % 3], 1)
    asked = {"num_votes": 20, "bins": 4}
    sites = [case.site] if case.model in (*LADDERS, "BayesianDecoderVAE") else [None, "z"]
    if case.model == "SemiSupervisedVAE" and case.guide == "SemiSupervised":
        with pytest.raises(ValueError, match=r"latent sites \['y', 'z'\] for each datum: say which one"):
            evaluate.disentanglement(pair, (x, *rest), factors, **asked)
        with pytest.raises(ValueError, match="two dimensions of a code"):
            evaluate.disentanglement(pair, (x, *rest), factors, site="y", **asked)
        sites = ["z"]
    for site in sites:
        result = evaluate.disentanglement(pair, (x, *rest), factors, site=site, **asked)
        assert result.site == case.site
        assert 0 <= result.mig <= 1
        assert 0 <= result.factor_vae <= 1


@pytest.mark.grid
@every_part
def test_sample_quality(case):
    pair, batch = ready(case)
    if not case.has_prior or has_gaps(case, batch):
        with pytest.raises(ValueError, match=r"no prior over \['z'\]|features are not finite"):
            evaluate.sample_quality(pair, batch, torch.nn.Flatten(), neighbour=2)
        return
    for kind in ("draw", "mean"):
        result = evaluate.sample_quality(pair, batch, torch.nn.Flatten(), neighbour=2, kind=kind)
        assert result.num_data == SIZE
        assert result.frechet > 0
        assert 0 <= result.coverage <= 1
    labels = torch.arange(SIZE) % 2
    assert "SmallClassifier" in evaluate.sample_quality(pair, batch, labels=labels, neighbour=2).network
