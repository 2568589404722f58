"""The autoregressive prior: probabilities that sum to one, no code sees a later one, draws have them."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_vae import priors
from tests.conftest import SIGMAS


def every(num_codes, num_values):
    places = torch.cartesian_prod(*[torch.arange(num_values)] * num_codes)
    return torch.eye(num_values)[places.reshape(-1, num_codes)]


def make(num_codes, num_values):
    prior = priors.Autoregressive(num_codes, num_values, hidden=8)
    torch.nn.init.normal_(prior.output.weight)
    return prior.double()


def test_it_starts_uniform():
    value = priors.Autoregressive(3, 4)().log_prob(every(3, 4))
    torch.testing.assert_close(value, torch.full((64,), -3 * math.log(4)))


@pytest.mark.parametrize("num_codes", [1, 2, 5])
def test_probabilities_sum_to_one_and_the_last_code_sees_the_first(num_codes, double):
    prior, z = make(num_codes, 3), every(num_codes, 3)
    assert float(prior().log_prob(z).logsumexp(0).detach()) == pytest.approx(0.0, abs=1e-9)
    codes = z[5 % len(z)].clone().requires_grad_()
    slopes = torch.autograd.functional.jacobian(prior.logits, codes).abs().sum((1, 3))
    assert (slopes.triu() == 0).all()
    assert (slopes[torch.tril_indices(num_codes, num_codes, -1).unbind()] > 0).all()


def test_draws_have_its_probabilities(double):
    prior, z = make(3, 3), every(3, 3)
    drawn = prior().expand((2, 3)).sample((1_000,))
    assert drawn.shape == (1_000, 2, 3, 3, 3)
    found = (drawn.reshape(-1, 1, 9) == z.reshape(1, -1, 9)).all(-1).double().mean(0)
    wanted = prior().log_prob(z).exp()
    assert ((found - wanted).abs() < SIGMAS * (wanted * (1 - wanted) / 2_000).sqrt()).all()
    first = prior.logits(torch.zeros(3, 3))[0].argmax()
    assert prior().mode[0].argmax() == first


def test_values_that_are_no_codes_are_refused():
    with pytest.raises(ValueError, match="support"):
        priors.Autoregressive(2, 3)().log_prob(torch.full((2, 3), 0.8))
