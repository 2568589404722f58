"""Bits and one-hot vectors: densities between the values, exact draws, and the gradients that they carry."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from ppl_vae.distributions.bits import Bits, OneHot, PathBits, PathOneHot, linear
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")
LOGITS = torch.tensor([0.7, -1.2, 0.1], dtype=torch.float64)
COUNT = 100_000


def test_at_their_values_they_are_the_usual_ones():
    z = torch.eye(3)
    torch.testing.assert_close(Bits(logits=LOGITS).log_prob(z), dist.Bernoulli(logits=LOGITS).log_prob(z))
    usual = dist.OneHotCategorical(logits=LOGITS).log_prob(z)
    torch.testing.assert_close(OneHot(logits=LOGITS).log_prob(z), usual)
    never = OneHot(logits=torch.tensor([0.0, -torch.inf]))
    assert never.log_prob(torch.tensor([1.0, 0.0])) == 0
    assert never.log_prob(torch.tensor([0.0, 1.0])) < -1e30


@pytest.mark.parametrize("kind", [Bits, OneHot])
def test_between_their_values_they_go_in_a_straight_line(kind):
    p, (a, b) = kind(logits=LOGITS), torch.eye(3)[:2]
    torch.testing.assert_close(p.log_prob(0.3 * a + 0.7 * b), 0.3 * p.log_prob(a) + 0.7 * p.log_prob(b))
    with pytest.raises(ValueError, match="support"):
        p.log_prob(1.5 * a)
    with pytest.raises(ValueError, match="support"):
        p.log_prob(a * torch.nan)


@pytest.mark.parametrize("temperature", [None, 0.5])
@pytest.mark.parametrize(("path", "kind"), [(PathBits, Bits), (PathOneHot, OneHot)])
def test_hard_draws_are_exact_and_have_a_gradient(path, kind, temperature):
    logits = LOGITS.clone().requires_grad_()
    tau = None if temperature is None else torch.tensor(temperature)
    q = path(logits, tau, True).expand((COUNT,) if kind is OneHot else (COUNT, 3))
    z = q.rsample()
    usual = kind(logits=LOGITS)
    assert q.support.check(z).all()
    error = (usual.mean * (1 - usual.mean) / COUNT).sqrt()
    assert ((z.mean(0) - usual.mean).abs() < SIGMAS * error).all()
    torch.testing.assert_close(q.log_prob(z), usual.log_prob(z))
    (found,) = torch.autograd.grad((z * torch.tensor([1.0, -0.5, 2.0])).sum() / COUNT, logits)
    if temperature is None:  # a linear function's gradient is that of its mean, exactly
        mean = kind(logits=logits).mean
        (wanted,) = torch.autograd.grad((mean * torch.tensor([1.0, -0.5, 2.0])).sum(), logits)
        torch.testing.assert_close(found, wanted)
    assert found.abs().min() > 0.01


@pytest.mark.parametrize("path", [PathBits, PathOneHot])
def test_relaxed_draws_are_nearer_to_the_discrete_ones_the_colder_they_are(path):
    distance = []
    for temperature in (1.0, 0.1, 0.001):
        torch.manual_seed(2)
        soft = (
            path(LOGITS, torch.tensor(temperature), False)
            .expand((500, 3)[: 1 + (path is PathBits)])
            .rsample()
        )
        torch.manual_seed(2)
        hard = (
            path(LOGITS, torch.tensor(temperature), True).expand((500, 3)[: 1 + (path is PathBits)]).rsample()
        )
        assert ((soft >= 0) & (soft <= 1)).all()
        distance.append(float((soft - hard).abs().mean()))
    assert distance[0] > 3 * distance[1] > 100 * distance[2]


def test_the_divergence_is_the_discrete_one():
    other = LOGITS.flip(0)
    for path, kind, usual in ((PathBits, Bits, dist.Bernoulli), (PathOneHot, OneHot, dist.OneHotCategorical)):
        q, p = path(LOGITS, torch.tensor(0.5), False), kind(logits=other)
        torch.testing.assert_close(
            kl_divergence(q, p), kl_divergence(usual(logits=LOGITS), usual(logits=other))
        )


def test_a_distribution_within_others_is_continued_too():
    usual = dist.OneHotCategorical(logits=LOGITS).expand((4, 2)).mask(torch.tensor([True, False])).to_event(1)
    z = torch.softmax(torch.randn(4, 2, 3), -1)
    within = linear(usual)
    torch.testing.assert_close(within.log_prob(z), (z * LOGITS.log_softmax(-1)).sum(-1)[:, 0])
    normal = dist.Normal(0.0, 1.0)
    assert linear(normal) is normal
