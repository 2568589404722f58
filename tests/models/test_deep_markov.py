"""The deep Markov model: a linear one has the Kalman filter's evidence, padding counts for nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.testing import check_pair
from ppl_vae.testing.state_space import EMIT, MOVE, NOISE, SCALE, _backwards, kalman_evidence, state_space
from tests.capture.helpers import assert_same_steps, sgd

LENGTHS = (6, 1, 4, 2)


class Drift(nn.Module):
    def forward(self, z):
        return MOVE * z, torch.full_like(z, NOISE)


class Louder(nn.Module):
    def forward(self, z):
        return EMIT * z


class FromHereOn(nn.Module):
    """What the data from each step on say of its latent: a filter that runs backwards."""

    num_features = 2

    def forward(self, x, there):
        there = torch.ones_like(x[..., 0], dtype=torch.bool) if there is None else there
        return torch.stack([torch.stack(part, -1) for part in _backwards(x[..., 0], there)], -1)


class ExactCombiner(nn.Module):
    """The exact posterior of a step given the one before it; perturbed, another one."""

    def __init__(self, perturb=0.0):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(perturb, dtype=torch.float64))

    def forward(self, z, context):
        whole = NOISE**-2 + context[..., :1]
        return (MOVE * z / NOISE**2 + context[..., 1:]) / whole + self.shift, whole.rsqrt()


def linear(perturb=0.0, num_transforms=0):
    """The library's own programs with linear parts, float64."""
    torch.manual_seed(0)
    model = models.DeepMarkov(likelihoods.Gaussian(scale=SCALE, event_dim=1), Louder(), Drift(), 1)
    guide = guides.Smoothing(FromHereOn(), ExactCombiner(perturb), 1, num_transforms, (4,))
    return pv.Pair(model, guide).double()


def data(lengths=LENGTHS, steps=None):
    x, length = state_space(lengths).batch
    wider = torch.full((len(x), (steps or x.shape[1]) - x.shape[1]), 7.5, dtype=x.dtype)
    return torch.cat([x, wider], 1).unsqueeze(-1), length


def exact(batch):
    x, length = batch
    return kalman_evidence(x[..., 0], length)


@pytest.mark.parametrize(("num_particles", "num_transforms"), [(1, 0), (3, 0), (3, 2)])
def test_the_exact_smoother_has_the_kalman_evidence_in_every_particle(num_particles, num_transforms):
    """Also through transforms, which start as the identity."""
    batch, pair = data(), linear(num_transforms=num_transforms)
    weight = estimators.IWAE(num_particles).draw(pair.model, pair.guide, *batch).log_weight
    torch.testing.assert_close(weight, exact(batch).expand_as(weight), rtol=1e-9, atol=1e-9)


def shaken(pair):
    with torch.no_grad():
        for parameter in pair.guide.flow.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return pair


def test_transforms_that_see_the_data_keep_the_evidence():
    batch, pair = data(), shaken(linear(num_transforms=2))
    assert bool((evaluate.bounds(pair, batch, 500).per_datum < exact(batch) - 0.01).all())
    many = evaluate.log_likelihood(pair, batch, 4000, progress=False).per_datum
    torch.testing.assert_close(many, exact(batch), rtol=0, atol=0.15)


def test_full_sequences_need_no_lengths():
    x, length = data((5, 5, 5))
    pair = linear()
    bound = evaluate.bounds(pair, x).per_datum
    torch.testing.assert_close(bound, exact((x, length)), rtol=1e-6, atol=1e-6)


def test_bounds_lie_below_with_another_guide_and_more_particles_reach_the_evidence():
    batch, pair = data(), linear(perturb=0.15)
    assert bool((evaluate.bounds(pair, batch, 500).per_datum < exact(batch) - 0.01).all())
    many = evaluate.log_likelihood(pair, batch, 1500, progress=False).per_datum
    torch.testing.assert_close(many, exact(batch), rtol=0, atol=0.15)


def test_padding_makes_no_difference():
    """Not its values, and with the exact guide not its width."""
    for width in (6, 9):
        batch = data(steps=width)
        torch.testing.assert_close(
            evaluate.bounds(linear(), batch).per_datum, exact(batch), rtol=1e-6, atol=1e-6
        )
    annealed = evaluate.log_likelihood(
        linear(0.1), data(steps=8), 4, method="ais", num_temperatures=10, num_leapfrogs=2, progress=False
    ).per_datum
    torch.testing.assert_close(annealed, exact(data()), rtol=0, atol=0.5)


def neural(direction="backwards", likelihood=None, width=5, num_transforms=0):
    torch.manual_seed(0)
    decoder = nets.MLPDecoder(2, (width,), (8,))
    model = models.DeepMarkov(
        likelihood or likelihoods.Bernoulli(event_dim=1), decoder, nets.GatedTransition(2, 8), 2
    )
    features = nets.Recurrent(width, 6, direction)
    guide = guides.Smoothing(features, nets.Combiner(2, features.num_features, 7), 2, num_transforms)
    return pv.Pair(model, guide)


def notes(rows=4, steps=6):
    x = (torch.rand(rows, steps, 5, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    length = torch.tensor([6, 1, 4, 2])[:rows]
    return x * (torch.arange(steps) < length[:, None]).unsqueeze(-1), length


@pytest.mark.parametrize("direction", ["backwards", "forwards", "both"])
def test_a_neural_pair_keeps_the_contract_and_does_not_look_at_padding(direction):
    pair, (x, length) = neural(direction).double(), notes()
    x = x.double()
    assert check_pair(pair, x, length).inputs == ("length",)
    noisy = x.where((torch.arange(6) < length[:, None]).unsqueeze(-1), 1.0)
    values = pv.encode(pair, x, length, seed=0).latents["z"]
    torch.testing.assert_close(pv.encode(pair, noisy, length, seed=0).latents["z"], values)
    scores = [evaluate.bounds(pair, (given, length), 3, seed=0).per_datum for given in (x, noisy)]
    torch.testing.assert_close(*scores)


@pytest.mark.grid
@pytest.mark.parametrize("direction", ["backwards", "forwards", "both"])
def test_its_captured_step_is_the_eager_one(direction):
    x, length = notes()
    assert_same_steps(neural(direction).double(), estimators.IWAE(2), [(x.double(), length)], sgd, steps=3)


def test_an_empty_sequence_has_no_nats_and_no_steps():
    x, length = notes(4)
    with_empty = evaluate.bounds(neural(), (x, torch.where(torch.arange(4) == 2, 0, length)), 3)
    assert with_empty.per_datum[2] == 0
    steps = torch.tensor([6, 3, 0, 2])
    value, _ = evaluate.per_step(with_empty, steps)
    assert value == pytest.approx(float(with_empty.per_datum.sum()) / 11, rel=1e-6)
    with pytest.raises(ValueError, match="one positive number for each"):
        evaluate.per_step(with_empty, torch.zeros(4))


@pytest.mark.parametrize("direction", ["backwards", "both"])
def test_padding_may_be_nan(direction):
    """It is not looked at, and leaves no NaN in a gradient either."""
    (x, length), found = notes(), []
    for filling in (0.0, float("nan")):
        pair = neural(direction, num_transforms=1)
        padded = x.where((torch.arange(6) < length[:, None]).unsqueeze(-1), filling)
        torch.manual_seed(0)
        estimators.ELBO(2).differentiable_loss(pair.model, pair.guide, padded, length).backward()
        found.append([each.grad for each in pair.parameters()])
    torch.testing.assert_close(*found)


def test_samples_end_where_they_are_told_to():
    pair, (x, length) = neural(), notes()
    pair.remember((x, length))
    drawn = pv.sample(pair, 3, inputs={"length": torch.tensor([2, 6, 0])}, seed=0)
    assert (drawn.value[0, 2:] == 0).all()
    assert (drawn.value[2] == 0).all()
    assert 0 < drawn.mean[1, -1].min() < 1
    with pytest.raises(ValueError, match=r"the model takes \['length'\], which is data of no site"):
        pv.sample(pair, 3)


def test_a_missing_stretch_is_imputed_as_the_joint_normal_has_it():
    x, length = data((5, 5))
    seen = torch.ones(2, 5, 1, dtype=torch.bool)
    seen[0, 1:3] = False
    found = pv.impute(
        linear(), x, length, observed={"x": seen}, method="metropolis-within-gibbs", num_samples=2000,
        num_chains=100, warmup=20, progress=False,
    )  # fmt: skip
    torch.testing.assert_close(found.acceptance, torch.ones(2, dtype=torch.float64))  # the exact posterior
    number = torch.arange(5)
    move = (MOVE ** (number[:, None] - number).clamp_min(0) * (number[:, None] >= number)).double()
    covariance = EMIT**2 * NOISE**2 * move @ move.T + SCALE**2 * torch.eye(5, dtype=torch.float64)
    gap, rest = torch.tensor([1, 2]), torch.tensor([0, 3, 4])
    given = covariance[gap][:, rest] @ torch.linalg.inv(covariance[rest][:, rest])
    mean = given @ x[0, rest, 0]
    torch.testing.assert_close(found.means["x"][0, gap, 0], mean, rtol=0, atol=0.1)
    assert torch.equal(found.means["x"][1], x[1])


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="latent_dim is 3 but the transition was built for 2"):
        models.DeepMarkov(likelihoods.Bernoulli(1), nn.Identity(), nets.GatedTransition(2, 4), 3)
    with pytest.raises(ValueError, match="latent_dim is 3 but the combiner was built for 2"):
        guides.Smoothing(nn.Identity(), nets.Combiner(2, 4), 3)
    with pytest.raises(ValueError, match=r"write likelihoods.Bernoulli\(..., event_dim=1\)"):
        neural(likelihood=likelihoods.Bernoulli(event_dim=2)).model(torch.zeros(2, 6, 5))
    with pytest.raises(ValueError, match=r"expected sequences \(B, T, 5\), got \(2, 6, 4\)"):
        neural().guide(torch.zeros(2, 6, 4))
    with pytest.raises(ValueError, match="Identity has no num_features"):
        guides.Smoothing(nn.Identity(), nets.Combiner(2, 4), 2, num_transforms=1)
    with pytest.raises(ValueError, match="num_transforms must be 0 or more, got -1"):
        neural(num_transforms=-1)
    with pytest.raises(ValueError, match=r"length must be whole numbers of steps, found 1.5"):
        neural().guide(torch.zeros(2, 6, 5), torch.tensor([1.5, 2.0]))
    with pytest.raises(ValueError, match=r"got \(2,\) of booleans: mask.sum\(1\)"):
        neural().guide(torch.zeros(2, 6, 5), torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"of one step or more, \(B, T, ...\), got \(2, 0, 5\)"):
        neural().guide(torch.zeros(2, 0, 5))
    with pytest.raises(ValueError, match="direction must be one of"):
        nets.Recurrent(5, 3, "sideways")


def test_padding_outside_of_the_support_is_no_fault_and_data_there_are():
    pair, (x, length) = neural(likelihood=likelihoods.LogNormal(event_dim=1)), notes()
    pair.model.decoder = nets.MLPDecoder(2, likelihoods.LogNormal(event_dim=1).raw_shape((5,)), (8,))
    x = (x + 0.5) * (torch.arange(6) < length[:, None]).unsqueeze(-1)
    assert check_pair(pair, x, length).inputs == ("length",)
    assert evaluate.bounds(pair, (x, length)).per_datum.isfinite().all()
    x[0, 0, 0] = -1.0
    with pytest.raises(pv.PairError, match="data must be positive, found -1"):
        check_pair(pair, x, length)
