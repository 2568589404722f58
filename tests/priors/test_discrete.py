"""Discrete priors: probabilities that sum to one, learned to be those of the data."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_vae import priors
from ppl_vae.core.finite import values_of


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("name", ["bits", "codes"])
def test_probabilities_sum_to_one(name, learned):
    prior = priors.Bernoulli(4, learned) if name == "bits" else priors.Categorical(2, 4, learned)
    if learned:
        prior.logits.data.normal_()
    p = prior()
    values = values_of(p)
    assert len(values) == 16
    torch.testing.assert_close(p.log_prob(values).exp().sum(), torch.tensor(1.0))
    assert p.sample((5, 2)).shape == (5, 2, *p.event_shape)
    assert p.support.check(p.sample((50,))).all()
    assert len(list(prior.parameters())) == learned
    assert prior.latent_dim == p.event_shape.numel()
    assert prior.double()().log_prob(values.double()).dtype == torch.float64


def test_codes_that_stay_uniform_cost_the_logarithm_of_their_number():
    value = priors.Categorical(7, 32, learned=False)().log_prob(torch.eye(32)[:7])
    assert float(value) == pytest.approx(-7 * math.log(32))


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="num_values must be a positive integer, got 0"):
        priors.Categorical(2, 0)
