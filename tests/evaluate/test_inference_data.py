from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ppl_vae import Pair
from ppl_vae.core.particles import log_mean_exp
from ppl_vae.evaluate.arviz_data import inference_data, load_inference_data, save_inference_data
from tests.evaluate.programs import GlobalGuide, GlobalModel, TimeGuide, TimeModel, stretched_pair
from tests.oracle import make_pair

GROUPS = {
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "prior",
    "prior_predictive",
    "observed_data",
}


def groups(result) -> dict:
    names = result.groups() if callable(result.groups) else [name.strip("/") for name in result.groups]
    return {name: result[name] for name in names if name}


def test_groups_and_dims(double):
    x = torch.randn(7, 5)
    result = groups(inference_data(make_pair(perturb=0.1), x, num_samples=11))
    assert set(result) == GROUPS
    latent, seen = ("chain", "draw", "datum", "z_dim_0"), ("chain", "draw", "datum", "x_dim_0")
    for group, name, dims, shape in [
        ("posterior", "z", latent, (1, 11, 7, 3)),
        ("prior", "z", latent, (1, 11, 7, 3)),
        ("posterior_predictive", "x", seen, (1, 11, 7, 5)),
        ("prior_predictive", "x", seen, (1, 11, 7, 5)),
        ("log_likelihood", "x", seen[:3], (1, 11, 7)),
        ("sample_stats", "log_weight", seen[:3], (1, 11, 7)),
        ("sample_stats", "log_prior", seen[:3], (1, 11, 7)),
        ("sample_stats", "log_guide", seen[:3], (1, 11, 7)),
        ("observed_data", "x", seen[2:], (7, 5)),
    ]:
        variable = result[group][name]
        assert variable.dims == dims, group
        assert variable.shape == shape, group
    assert np.array_equal(result["observed_data"]["x"].values, x.numpy())
    assert list(result["posterior"]["datum"].values) == list(range(7))


def test_the_terms_belong_to_the_draws(double):
    pair, x = stretched_pair(1.2), torch.randn(7, 5)
    result = groups(inference_data(pair, x, num_samples=400))
    stats = result["sample_stats"]
    likelihood = result["log_likelihood"]["x"]
    total = likelihood + stats["log_prior"] - stats["log_guide"]
    assert np.allclose(total, stats["log_weight"])
    z = torch.from_numpy(result["posterior"]["z"].values[0])
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert np.allclose(stats["log_prior"].values[0], prior)
    mean = torch.nn.functional.linear(z, pair.model.weight, pair.model.bias)
    expected = torch.distributions.Normal(mean, pair.model.log_scale.exp()).log_prob(x).sum(-1)
    assert np.allclose(likelihood.values[0], expected.detach())
    evidence = log_mean_exp(torch.from_numpy(stats["log_weight"].values[0]))
    assert torch.allclose(evidence, pair.model.log_evidence(x).detach(), atol=0.5)


def test_predictions_are_drawn_and_follow_posterior_and_prior(double):
    pair, x = stretched_pair(1.0), torch.randn(3, 5) * 3
    result = groups(inference_data(pair, x, num_samples=4000))
    posterior = pair.model.posterior(x)
    mean = torch.nn.functional.linear(posterior.mean, pair.model.weight, pair.model.bias).detach()
    after = torch.from_numpy(result["posterior_predictive"]["x"].values[0])
    before = torch.from_numpy(result["prior_predictive"]["x"].values[0])
    assert ((after.mean(0) - mean).abs() < 4.5 * after.std(0) / 4000**0.5).all()
    assert ((before.mean(0) - pair.model.bias.detach()).abs() < 4.5 * before.std(0) / 4000**0.5).all()
    assert (before.std(0) > after.std(0)).all()
    assert not np.array_equal(result["prior"]["z"].values, result["posterior"]["z"].values)


def test_inner_plates_come_after_the_datum(double):
    result = groups(inference_data(Pair(TimeModel(), TimeGuide()), torch.randn(6, 4), num_samples=5))
    assert result["posterior"]["z"].shape == (1, 5, 6, 2)
    assert result["posterior"]["h"].dims == ("chain", "draw", "datum", "h_dim_0")
    assert result["posterior"]["h"].shape == (1, 5, 6, 4)
    assert result["prior_predictive"]["x"].shape == (1, 5, 6, 4)
    assert result["log_likelihood"]["x"].shape == (1, 5, 6)
    assert result["observed_data"]["x"].shape == (6, 4)


def test_global_latents_have_no_datum(double):
    result = groups(inference_data(Pair(GlobalModel(), GlobalGuide()), (torch.randn(6),), num_samples=5))
    assert result["posterior"]["mean"].dims == ("chain", "draw")
    assert result["posterior"]["z"].dims == ("chain", "draw", "datum")
    assert result["sample_stats"]["global_log_weight"].shape == (1, 5)


@pytest.mark.parametrize(("rows", "samples"), [(1, 5), (5, 1), (1, 1)])
def test_one_datum_and_one_draw(double, rows, samples):
    for pair, x in [
        (make_pair(perturb=0.1), torch.randn(rows, 5)),
        (Pair(TimeModel(), TimeGuide()), torch.randn(rows, 4)),
    ]:
        result = groups(inference_data(pair, x, num_samples=samples))
        assert result["posterior"]["z"].shape[:3] == (1, samples, rows)
        assert result["posterior_predictive"]["x"].shape == (1, samples, rows, x.shape[1])
        assert result["sample_stats"]["log_weight"].shape == (1, samples, rows)


def test_seed_repeats_and_leaves_random_numbers_and_modes(double):
    pair, x = make_pair(perturb=0.1), torch.randn(4, 5)
    pair.train()
    before = torch.get_rng_state()
    first, again = (groups(inference_data(pair, x, 6, seed=2)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for name in GROUPS:
        assert first[name].identical(again[name]), name
    assert all(module.training for module in pair.modules())
    other = groups(inference_data(pair, x, 6, seed=3))
    assert not other["posterior"].identical(first["posterior"])


def test_round_trip_through_netcdf(double, tmp_path):
    written = inference_data(make_pair(perturb=0.1), torch.randn(4, 5), 6)
    save_inference_data(written, tmp_path / "inference_data.nc")
    read, expected = groups(load_inference_data(tmp_path / "inference_data.nc")), groups(written)
    assert set(read) == GROUPS
    for name in GROUPS:
        assert read[name].equals(expected[name]), name


def test_errors():
    with pytest.raises(ValueError, match="num_samples must be a positive whole number, got 0"):
        inference_data(make_pair(), torch.randn(3, 5), 0)
    with pytest.raises(TypeError, match="Pair"):
        inference_data(nn.Linear(1, 1), torch.randn(3, 5))
