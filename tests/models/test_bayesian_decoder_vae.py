"""Weights with a prior beside local latents: the bound of a whole data set from its parts."""

from __future__ import annotations

import math

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets
from ppl_vae.core.sites import PairError
from ppl_vae.testing import check_pair
from ppl_vae.testing.linter import valid_estimators
from tests.capture.helpers import assert_same_steps
from tests.conftest import SIGMAS

SHAPE = (1, 4, 4)


def make_images(data_size=20, hidden=(6,)):
    model = models.BayesianDecoderVAE(likelihoods.Bernoulli(), SHAPE, 2, data_size, hidden)
    guide = guides.GlobalMeanField(nets.MLPEncoder(SHAPE, 2, (6,)), model.weight_shapes, data_size)
    return pv.Pair(model, guide), torch.randint(0, 2, (data_size, *SHAPE)).float()


def make_line(x):
    """x = w1 z + w0 + noise in one dimension: two global weights, whose evidence a grid can integrate."""
    likelihood = likelihoods.Gaussian(scale=0.5, event_dim=1)
    model = models.BayesianDecoderVAE(likelihood, (1,), 1, len(x), (), prior_scale=math.sqrt(2))
    guide = guides.GlobalMeanField(nets.MLPEncoder((1,), 1, ()), model.weight_shapes, len(x), 0.3)
    with torch.no_grad():
        guide.loc[0].copy_(torch.tensor([[0.8, 0.4]]))
        head = guide.encoder.head.linear
        head.weight.copy_(torch.tensor([[0.9], [0.0]]))
        head.bias.copy_(torch.tensor([-0.36, -0.64]))
    return pv.Pair(model, guide)


def line_evidence(x):
    """log p(x_1 ... x_N), by a grid over both weights: x_i | w ~ N(w0, w1^2 + 0.25)."""
    grid = torch.linspace(-6, 6, 1201)
    slope, offset = torch.meshgrid(grid, grid, indexing="ij")
    prior = torch.distributions.Normal(0.0, 1.0)
    log_joint = prior.log_prob(slope) + prior.log_prob(offset)
    noise = torch.distributions.Normal(offset, (slope.square() + 0.25).sqrt())
    for value in x.flatten():
        log_joint = log_joint + noise.log_prob(value)
    return log_joint.flatten().logsumexp(0) + 2 * math.log(grid[1] - grid[0])


def bounds(estimator, pair, x, batch_size, repeats):
    """Estimates of the bound of all data from random batches."""
    found = []
    for _ in range(repeats):
        rows = torch.randperm(len(x))[:batch_size]
        found.append(-estimator.loss(pair.model, pair.guide, x[rows]))
    return torch.tensor(found)


def test_it_keeps_the_contract_where_global_sites_are_allowed():
    pair, x = make_images()
    report = check_pair(pair, x, allow_global=True)
    assert report.global_sites == ("weight1", "weight2")
    assert pair.model.weight_shapes == ((6, 3), (16, 7))
    with pytest.raises(PairError, match="stand outside the plate 'data'"):
        check_pair(pair, x)


@pytest.mark.parametrize("estimator", [estimators.ELBO(3), estimators.MeanFieldELBO(), Trace_ELBO()],
                         ids=["ELBO", "MeanFieldELBO", "Pyro's"])  # fmt: skip
def test_estimators_with_a_place_for_global_latents_train_it(estimator):
    pair, x = make_images()
    run = pv.fit(pair, estimator, data.Split.from_tensor(x), epochs=2, batch_size=5, progress=False)
    assert math.isfinite(run.history["train_bound"].iloc[-1])
    assert all(parameter.grad is not None for parameter in pair.parameters())


@pytest.mark.parametrize(
    "estimator",
    [estimators.IWAE(3), estimators.DReG(3), estimators.Renyi(0.5, 3), RenyiELBO(0.5, 3)],
    ids=["IWAE", "DReG", "Renyi", "Pyro's Renyi"],
)
def test_bounds_that_weigh_data_apart_refuse_it_and_say_what_to_use(estimator):
    pair, x = make_images()
    with pytest.raises(PairError, match=r"weight1(?s:.)*Valid for it: .*estimators\.ELBO"):
        check_pair(pair, x[:5], estimator=estimator)


def test_the_linter_lists_what_is_valid():
    pair, x = make_images()
    named = valid_estimators(pair, x[:5])
    assert {"estimators.ELBO", "estimators.MeanFieldELBO", "pyro.infer.Trace_ELBO"} <= set(named)
    assert "estimators.IWAE" not in named


def test_the_decoder_with_given_weights_is_the_net_of_these_weights(double):
    pair, _x = make_images()
    first, second = torch.randn(6, 3), torch.randn(16, 7)
    z = torch.randn(5, 2)
    wanted = torch.tanh(z @ first[:, :-1].T + first[:, -1]) @ second[:, :-1].T + second[:, -1]
    torch.testing.assert_close(pair.model.decode(z, [first, second]), wanted.reshape(5, *SHAPE))
    # K draws of the weights, one for all data
    many = pair.model.decode(z.expand(3, 5, 2), [first.expand(3, 1, 6, 3), second.expand(3, 1, 16, 7)])
    torch.testing.assert_close(many, wanted.reshape(5, *SHAPE).expand(3, 5, *SHAPE))


@pytest.mark.parametrize(
    "estimator", [estimators.ELBO(100), estimators.MeanFieldELBO(100)], ids=["sampled", "closed form"]
)
def test_batches_give_the_bound_of_the_whole_data_set_without_bias(double, estimator):
    torch.manual_seed(0)
    x = torch.randn(12, 1) + 0.4
    pair = make_line(x)
    whole = bounds(estimator, pair, x, len(x), 100)
    parts = bounds(estimator, pair, x, 3, 300)
    error = (whole.var() / len(whole) + parts.var() / len(parts)).sqrt()
    assert abs(whole.mean() - parts.mean()) < SIGMAS * error
    evidence = line_evidence(x)
    assert evidence - 10 < whole.mean() < evidence


def test_pyros_renyi_bound_is_wrong_here_by_much(double):
    torch.manual_seed(0)
    x = torch.randn(12, 1) + 0.4
    pair = make_line(x)
    renyi = RenyiELBO(alpha=0.0, num_particles=50, vectorize_particles=True, max_plate_nesting=1)
    parts, whole = bounds(renyi, pair, x, 3, 200), bounds(renyi, pair, x, len(x), 50)
    # from batches it says more than there is, though from all the data at once it does not
    assert parts.mean() - SIGMAS * parts.std() / len(parts) ** 0.5 > line_evidence(x) + 1
    assert whole.mean() < line_evidence(x)


def test_sampling_and_the_other_questions():
    pair, x = make_images(data_size=8)
    pair.remember((x,))
    draws = pv.sample(pair, 30, seed=0)  # more than the data set has
    assert draws.value.shape == (30, *SHAPE)
    assert draws.latents["weight1"].shape == (6, 3)
    assert pv.reconstruct(pair, x[:4], num_samples=3).value.shape == (3, 4, *SHAPE)
    codes = pv.encode(pair, x)
    assert codes.means["z"].shape == (8, 2)
    torch.testing.assert_close(codes.means["weight2"], pair.guide.loc[1])
    assert pv.traverse(pair, x[:2], "z", steps=3).value.shape == (2, 3, 2, *SHAPE)


def test_the_captured_step_is_the_eager_step(double):
    pair, x = make_images()
    assert_same_steps(pair, estimators.MeanFieldELBO(2), [(x[:5].double(),)], steps=5)


def test_a_training_saves_and_loads(tmp_path):
    pair, x = make_images()
    split = data.Split.from_tensor(x)
    pv.fit(pair, estimators.ELBO(), split, epochs=2, batch_size=5, run_dir=tmp_path / "run", progress=False)
    again = pv.load(tmp_path / "run")
    torch.testing.assert_close(again.guide.raw_scale[1], pair.guide.raw_scale[1])
    torch.testing.assert_close(pv.sample(again, 3, seed=1).mean, pv.sample(pair, 3, seed=1).mean)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="gated"):
        models.BayesianDecoderVAE(likelihoods.Bernoulli(), SHAPE, 2, 10, activation="gated")
    with pytest.raises(ValueError, match="prior_scale"):
        models.BayesianDecoderVAE(likelihoods.Bernoulli(), SHAPE, 2, 10, prior_scale=0.0)
