"""The adversary finds a known divergence from the prior, and the two trainings are kept apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import softplus

import ppl_vae as pv
from ppl_vae import PairError, estimators, guides, kl, likelihoods, models, nets, priors
from tests.kl.programs import particles


def codes(size, shift):
    """Data of which the codes are N(shift, I) together: of a deviation of 0.3 each, around spread middles."""
    loc = shift + math.sqrt(1 - 0.3**2) * torch.randn(size, 2)
    return torch.cat([loc, torch.full((size, 2), 0.3)], -1)


def at_best(shift):
    """What the adversary makes the penalty and its own loss at its best, by quadrature along the shift."""
    place = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    far = shift * math.sqrt(2)
    q, p = (Normal(mean, 1.0).log_prob(place).exp() * 20 / 4000 for mean in (far, 0.0))
    logit = far * place - far**2 / 2
    own = (q * softplus(-logit) + p * softplus(logit)).sum() / 2
    return float((q * softplus(logit)).sum()), float(own)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_adversary_is_as_good_as_the_density_ratio(shift):
    treatment = kl.AdversarialPrior(2.0, hidden=(32,), learning_rate=5e-3)
    penalty = treatment.penalty("z", particles(codes(4, 0.0)), data_size=1000)
    values, losses = [], []
    for _ in range(150):
        drawn = particles(codes(500, shift))
        with torch.no_grad():
            values.append(penalty(drawn))
            losses.append(penalty.loss(*penalty._seen))
        penalty.learn()
    exact, own = at_best(shift)
    assert float(torch.stack(values[-50:]).mean()) / 2 == pytest.approx(exact, abs=0.05)
    assert float(torch.stack(losses[-50:]).mean()) == pytest.approx(own, abs=0.02)


def test_the_guides_step_moves_the_codes_towards_the_prior_and_not_the_adversary():
    penalty = kl.AdversarialPrior(hidden=(16,), learning_rate=1e-2).penalty("z", particles(codes(4, 0.0)), 8)
    for _ in range(60):
        with torch.no_grad():
            penalty(particles(codes(200, 1.5)))
        penalty.learn()
    x = codes(200, 1.5).requires_grad_()
    penalty.zero_grad(set_to_none=True)
    penalty(particles(x)).backward()
    assert (x.grad[:, :2].mean(0) > 0).all()  # a step down the gradient goes back to the origin
    assert all(parameter.grad is None for parameter in penalty.parameters())


def build(prior=None, guide=guides.Deterministic):
    model = models.VAE(likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(2, (3,), (8,)), 2, prior)
    return pv.Pair(model, guide(nets.MLPEncoder((3,), 2, (8,))))


def test_it_trains_an_autoencoder_without_a_kl():
    options = {"epochs": 2, "batch_size": 20, "progress": False, "capture": False, "check": False}
    treatment = kl.AdversarialPrior(3.0, hidden=(8,))
    run = pv.fit(build(), estimators.ELBO(), torch.randn(40, 3), kl=treatment, **options)
    last = run.history.iloc[-1]
    assert last["train_bound"] == pytest.approx(
        last["train_reconstruction"] - last["train_penalty_z"], rel=1e-5
    )


def test_what_makes_no_sense_is_refused():
    for options, message in (
        ({"weight": -1.0}, "weight must be a finite number >= 0"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\]"),
        ({"learning_rate": 0.0}, "learning_rate must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            kl.AdversarialPrior(**options)
    learned = build(priors.DiagonalNormal(2), guides.MeanField)
    with pytest.raises(PairError, match="the prior of site 'z' is learned, and nothing would train it"):
        pv.fit(learned, estimators.ELBO(), torch.randn(40, 3), kl=kl.AdversarialPrior(), progress=False)
