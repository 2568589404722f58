"""Reweighted wake-sleep: against Pyro's where the two agree, and against what dreams should teach."""

from __future__ import annotations

import math

import pyro
import pytest
import torch

from ppl_vae import PairError, estimators
from ppl_vae.estimators import ReweightedWakeSleep
from ppl_vae.testing import oracles


def gradients(estimator, oracle, seed, repeats=500):
    pyro.set_rng_seed(seed)
    batch = tuple(t.repeat(repeats, 1) for t in oracle.batch)
    loss = -estimator.differentiable_loss(oracle.pair.model, oracle.pair.guide, *batch) / len(batch[0])
    found = torch.autograd.grad(loss, list(oracle.pair.parameters()), allow_unused=True)
    filled = [
        torch.zeros_like(p) if g is None else g for g, p in zip(found, oracle.pair.parameters(), strict=True)
    ]
    return torch.cat([g.flatten() for g in filled])


def is_guide(oracle):
    size = sum(p.numel() for p in oracle.pair.model.parameters())
    return torch.arange(sum(p.numel() for p in oracle.pair.parameters())) >= size


def inclusive(oracle, x):
    """The exact gradient of E_{p(z | x)}[log q(z | x)], by enumeration of two bits."""
    pair = oracle.pair
    z = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).to(x)
    logits = x[:, None] * pair.guide.slope + pair.guide.offset
    log_q = torch.distributions.Bernoulli(logits=logits).log_prob(z).sum(-1)
    model = pair.model
    log_p = torch.distributions.Bernoulli(logits=model.prior_logits).log_prob(z).sum(-1)
    log_p = log_p + torch.distributions.Normal(z * model.weight, 1.0).log_prob(x[:, None]).sum(-1)
    return (log_p.softmax(-1).detach() * log_q).sum(-1)


def test_wake_phi_approaches_the_inclusive_divergence():
    oracle = oracles.bernoulli(0.4)
    wanted = torch.autograd.grad(
        inclusive(oracle, *oracle.batch).mean(), list(oracle.pair.guide.parameters())
    )
    wanted = torch.cat(wanted)
    gaps = []
    for num_particles in (2, 200):
        sampled = torch.stack(
            [gradients(ReweightedWakeSleep(num_particles), oracle, seed, 100) for seed in range(30)]
        )[:, is_guide(oracle)]
        gaps.append((sampled.mean(0) - wanted).abs().max())
    assert gaps[1] < 0.02 * wanted.abs().max() + 4.5 * (sampled.std(0) / math.sqrt(30)).max()
    assert gaps[1] < 0.2 * gaps[0]


def test_sleep_phi_is_the_inclusive_divergence_over_dreams():
    """E_{p(x, z)}[grad log q]: its exact value by averaging the enumeration over fresh data."""
    oracle = oracles.bernoulli(0.4)
    sampled = torch.stack(
        [gradients(ReweightedWakeSleep(2, insomnia=0.0), oracle, seed) for seed in range(40)]
    )
    sampled = sampled[:, is_guide(oracle)]
    pyro.set_rng_seed(99)
    z = torch.bernoulli(oracle.pair.model.prior_logits.sigmoid().expand(200_000, 2))
    x = (z * oracle.pair.model.weight + torch.randn_like(z)).detach()
    wanted = torch.autograd.grad(inclusive(oracle, x).mean(), list(oracle.pair.guide.parameters()))
    error = (sampled.var(0) / 40 + 1 / 200_000).sqrt()
    assert ((sampled.mean(0) - torch.cat(wanted)).abs() < 6 * error).all()
    assert (torch.cat(wanted).abs() > 6 * error).any(), "the test would not notice a missing gradient"


@pytest.mark.parametrize("make", [oracles.linear_gaussian, oracles.bernoulli])
def test_insomnia_mixes_wake_and_sleep(make):
    oracle = make(0.3)
    wake, sleep, mixed = (
        gradients(ReweightedWakeSleep(3, insomnia=i), oracle, 1, 2) for i in (1.0, 0.0, 0.3)
    )
    torch.testing.assert_close(mixed, 0.3 * wake + 0.7 * sleep)


def test_at_the_exact_pair_dreams_teach_nothing():
    oracle = oracles.linear_gaussian()
    sampled = torch.stack(
        [gradients(ReweightedWakeSleep(2, insomnia=0.0), oracle, seed) for seed in range(40)]
    )
    sampled = sampled[:, is_guide(oracle)]
    assert (sampled.mean(0).abs() <= 6 * sampled.std(0) / math.sqrt(40)).all()


@pytest.mark.parametrize("num_particles", [2, 5])
def test_wake_equals_pyros_for_one_datum(num_particles):
    """Pyro's weighs the particles of the whole batch jointly; for one datum that is the same."""
    oracle = oracles.linear_gaussian(0.3)
    x, pair = oracle.batch[0][:1], oracle.pair
    stock = pyro.infer.ReweightedWakeSleep(
        num_particles=num_particles, insomnia=1.0, vectorize_particles=True, max_plate_nesting=1,
        model_has_params=True, strict_enumeration_warning=False,
    )  # fmt: skip
    found = []
    for estimator in (ReweightedWakeSleep(num_particles), stock):
        pair.zero_grad(set_to_none=True)
        pyro.set_rng_seed(5)
        estimator.loss_and_grads(*pair.pyro(), x)
        found.append([p.grad.clone() for p in pair.parameters()])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


def test_data_that_the_guide_cannot_be_given_is_refused():
    oracle = oracles.chain()  # observes x.T
    with pytest.raises(PairError, match="site 'x' does not observe one of the batch's tensors as it is"):
        ReweightedWakeSleep(2, insomnia=0.5).differentiable_loss(
            oracle.pair.model, oracle.pair.guide, *oracle.batch
        )


@pytest.mark.parametrize("insomnia", [-0.1, 1.5])
def test_insomnia_is_a_share(insomnia):
    with pytest.raises(ValueError, match=r"insomnia must be in \[0, 1\]"):
        estimators.ReweightedWakeSleep(2, insomnia=insomnia)
