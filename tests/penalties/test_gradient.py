"""The gradient penalty: of a linear decoder its squared norm, without bias, and its gradient."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import PairError, estimators, guides, likelihoods, models, nets, penalties
from ppl_vae.core.drawing import draw
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")

X = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


def build(guide=guides.MeanField, hidden=()):
    decoder = nets.MLPDecoder(2, (3,), hidden)
    model = models.VAE(likelihoods.Gaussian(event_dim=1), decoder, 2)
    return pv.Pair(model, guide(nets.MLPEncoder((3,), 2, (4,))))


def linear_of(pair):
    return next(part for part in pair.model.decoder.modules() if isinstance(part, torch.nn.Linear)).weight


@pytest.mark.parametrize("guide", [guides.MeanField, guides.Deterministic])
def test_it_is_the_norm_of_a_linear_decoder_and_moves_it_so(guide):
    pair = build(guide)
    weight = linear_of(pair)
    drawn = draw(pair.model, pair.guide, (X,), num_particles=3)
    penalty = penalties.GradientPenalty(0.5).penalty("x", draw(pair.model, pair.guide, (X,)), 4)
    values, gradients = [], []
    for _ in range(300):
        value = penalty(drawn)
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, weight, retain_graph=True)[0])
    for found, exact in (
        (torch.stack(values), 0.5 * weight.square().sum()),
        (torch.stack(gradients), weight),  # of half the squared norm
    ):
        error = found.std(0) / len(found) ** 0.5
        assert ((found.mean(0) - exact).abs() < SIGMAS * error).all()


def test_of_a_bent_decoder_it_is_the_jacobians():
    pair = build(guides.Deterministic, (5,))
    drawn = draw(pair.model, pair.guide, (X,))
    z = drawn.guide_trace.nodes["z"]["value"].detach()
    jacobians = torch.stack([torch.autograd.functional.jacobian(pair.model.decoder, each) for each in z])
    exact = jacobians.square().sum((1, 2)).mean()
    penalty = penalties.GradientPenalty(1.0).penalty("x", drawn, 4)
    found = torch.stack([penalty(drawn).detach() for _ in range(300)])
    assert abs(found.mean() - exact) < SIGMAS * found.std() / len(found) ** 0.5


def test_training_flattens_the_decoder():
    norms = {}
    options = {"epochs": 30, "batch_size": 4, "learning_rate": 1e-2, "progress": False, "check": False}
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        pair = build(guides.Deterministic)
        treatment = penalties.GradientPenalty(weight)
        pv.fit(pair, estimators.ELBO(), X, kl=0.01, penalties=treatment, capture=False, **options)
        norms[weight] = linear_of(pair).square().sum().detach()
    assert norms[10.0] < 0.5 * norms[0.0]


def test_what_has_no_gradient_is_refused():
    with pytest.raises(ValueError, match="weight must be a finite number >= 0"):
        penalties.GradientPenalty(-1.0)
    pair = build()
    for parameter in pair.guide.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(PairError, match="does not depend on a latent that the guide draws with a gradient"):
        penalties.GradientPenalty().penalty("x", draw(pair.model, pair.guide, (X,)), 4)
