"""Annealing from both sides, against evidences that are known."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_vae import evaluate
from ppl_vae.core.isolation import questioning
from ppl_vae.core.sites import PairError
from ppl_vae.evaluate.bidirectional import log_mean
from ppl_vae.sampling.annealing import Annealing, interpolated, temperatures
from ppl_vae.sampling.bases import base_of
from ppl_vae.sampling.gradients import Gradients
from ppl_vae.sampling.joint import Joint
from tests.sampling.helpers import linear_gaussian
from tests.zoo import CASES


@pytest.mark.parametrize("start", ["guide", "moments", "prior"])
def test_the_evidence_lies_between_and_the_weights_are_unbiased(start):
    """E[w] = p(x), for a guide that is too wide and beside the posterior."""
    oracle, x = linear_gaussian(1.4, 0.4, data=40)
    evidence = oracle.pair.model.log_evidence(x).detach()
    with questioning(oracle.pair, 0, oracle.pair.device):
        joint = Joint(oracle.pair, (x,), "a test")
        run = Annealing(joint, base_of(joint, start), Gradients(oracle.pair, False, 1), 20, 16, 3)
        log_weight = run.forward().log_weight
    ratio = (log_weight - evidence).exp()
    error = (ratio.mean() - 1) / (ratio.mean(0).std() / math.sqrt(len(x)))
    assert abs(float(error)) < 4
    below = evidence - log_mean(log_weight)
    assert float(below.mean()) > -4 * float(below.std()) / math.sqrt(len(x))
    assert float(below.mean()) < 0.1
    assert float(run.log_step.exp().min()) > 0.05


@pytest.mark.parametrize("start", ["guide", "prior"])
def test_both_sides_of_data_from_the_model(start):
    oracle, x = linear_gaussian(0.6, 0.3)
    oracle.pair.remember((x,))
    result = evaluate.sandwich(
        oracle.pair, 40, num_temperatures=30, num_leapfrogs=3, start=start, progress=False
    )
    assert result.gap > -3 * result.gap_standard_error
    assert result.gap < 0.2
    short = evaluate.sandwich(
        oracle.pair, 40, num_temperatures=2, num_leapfrogs=1, num_chains=2, start=start, progress=False
    )
    assert short.gap > result.gap
    assert "gap" in str(result)
    # the data are the model's: their mean evidence is minus the entropy
    noise = (2 * oracle.pair.model.log_scale).exp() * torch.eye(2, dtype=x.dtype)
    weight = oracle.pair.model.weight
    law = torch.distributions.MultivariateNormal(oracle.pair.model.bias, weight @ weight.T + noise)
    entropy = float(law.entropy().detach())
    assert abs(float(result.lower.mean()) + entropy) < 4 / math.sqrt(40)


def test_batches_do_not_change_what_is_simulated():
    oracle, x = linear_gaussian()
    oracle.pair.remember((x,))
    options = {"num_temperatures": 8, "num_leapfrogs": 1, "progress": False}
    whole = evaluate.sandwich(oracle.pair, 30, **options)
    parts = evaluate.sandwich(oracle.pair, 30, batch_size=16, **options)
    assert torch.allclose(whole.lower, parts.lower, atol=0.6)
    assert abs(float((whole.lower - parts.lower).mean())) < 0.05


def test_a_model_of_labels_takes_inputs():
    case = next(case for case in CASES if case.model == "ConditionalVAE")
    pair = case.pair()
    pair.remember(case.batch())
    result = evaluate.sandwich(pair, 6, inputs={"y": 2}, num_temperatures=10, num_leapfrogs=2, progress=False)
    assert result.lower.isfinite().all()
    with pytest.raises(ValueError, match="inputs="):
        evaluate.sandwich(pair, 6, num_temperatures=2, progress=False)


def test_more_chains_than_fit_and_wrong_numbers():
    oracle, x = linear_gaussian()
    oracle.pair.remember((x,))
    for name in ("num_data", "num_temperatures", "num_chains", "num_leapfrogs", "batch_size"):
        options = {"num_data": 2, name: 0}
        with pytest.raises(ValueError, match=name):
            evaluate.sandwich(oracle.pair, **options, progress=False)
    with pytest.raises(ValueError, match="start must be"):
        evaluate.sandwich(oracle.pair, 2, start="middle", progress=False)


def test_the_schedule_is_dense_at_both_ends():
    betas = temperatures(100)
    assert (float(betas[0]), float(betas[-1])) == (0.0, 1.0)
    widths = betas.diff()
    assert bool((widths > 0).all())
    assert torch.allclose(widths, widths.flip(0))
    assert widths[0] < widths[50] / 5
    known = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    values = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    wanted = torch.tensor([0.0, 0.25, 0.75, 1.0], dtype=torch.float64)
    assert interpolated(values, known, wanted).flatten().tolist() == [0.0, 0.5, 2.0, 3.0]


def test_global_latents_are_refused_by_name():
    case = next(case for case in CASES if case.model == "BayesianDecoderVAE")
    pair = case.pair()
    pair.remember(case.batch())
    with pytest.raises(PairError, match="outside the plate 'data'"):
        evaluate.sandwich(pair, 2, num_temperatures=2, progress=False)


def test_annealing_data_is_tighter_than_as_many_draws_and_stays_below():
    """A guide that is far off: importance sampling is nats short, annealing from it is not."""
    oracle, x = linear_gaussian(0.5, 1.0, data=20)
    evidence = float(oracle.pair.model.log_evidence(x).detach().mean())
    annealed = evaluate.log_likelihood(
        oracle.pair, x, method="ais", num_temperatures=40, num_leapfrogs=4, progress=False
    )
    drawn = evaluate.log_likelihood(oracle.pair, x, 16 * 40, progress=False)
    assert annealed.is_lower_bound
    assert "evaluate.sandwich" in str(annealed)
    assert -0.05 < evidence - annealed.value < 0.1
    assert evidence - annealed.value < evidence - drawn.value
    halves = evaluate.log_likelihood(
        oracle.pair, x, 8, method="ais", num_temperatures=40, num_leapfrogs=4, batch_size=10, progress=False
    )
    assert halves.num_particles == 8
    assert abs(halves.value - annealed.value) < 0.5
    with pytest.raises(ValueError, match="method must be"):
        evaluate.log_likelihood(oracle.pair, x, method="hmc", progress=False)
