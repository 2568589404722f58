"""Diffusion: its bound in closed form, its two forms against each other, and what it refuses.

Of normal data with the best denoiser every term of the bound is a quadratic form of the datum and the noise,
so that signs of a Hadamard matrix in their place, uncorrelated and of variance one, give its mean exactly.
"""

from __future__ import annotations

import math

import pytest
import torch
from pyro.poutine.messenger import Messenger
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, models, nets
from ppl_vae.core import drawing
from ppl_vae.distributions import diffusion
from ppl_vae.distributions.noise import noise_scale, signal, step_back, without_noise
from ppl_vae.testing import check_pair
from tests.conftest import SIGMAS

# (variance, steps): the bound and the exact -log p of the chain, nats, by sums over the steps elsewhere
KNOWN = {
    (1.0, 100): (2.0160890832863085, 1.421030239794641),
    (1.0, 1000): (1.4755425392964199, 1.4189594463290174),
    (1.0, None): (0.5 * math.log(2 * math.pi * math.e), None),
    (0.25, 100): (1.2554767546775416, 0.7278823021749423),
    (0.25, 1000): (0.7760231712956136, 0.7258121818511245),
    (0.25, None): (0.7258010, None),
}


class Best(nn.Module):
    """The best guess of the noise in normal data."""

    def __init__(self, variance):
        super().__init__()
        self.variance = variance

    def forward(self, z, gamma):
        gamma = gamma.reshape(*gamma.shape, *[1] * (z.dim() - gamma.dim()))
        alpha, sigma = signal(gamma), noise_scale(gamma)
        return sigma * z / (alpha.square() * self.variance + sigma.square())


class Signs(Messenger):
    """Each site at its mean plus or minus its scale."""

    def __init__(self, columns):
        super().__init__()
        self.columns = iter(columns)

    def _pyro_sample(self, msg):
        if msg["name"].startswith("z"):
            normal = msg["fn"].base_dist
            msg["value"], msg["done"] = normal.loc + normal.scale * next(self.columns)[:, None], True


def hadamard(size):
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def ladder(variance, steps):
    schedule = nets.NoiseSchedule()
    return pv.Pair(
        models.DiffusionLadder(Best(variance), schedule, steps), guides.NoisingLadder(schedule, steps)
    )


@pytest.mark.parametrize("estimator", [estimators.MeanFieldELBO(), estimators.ELBO()])
@pytest.mark.parametrize(
    ("variance", "steps"), [(1.0, 100), (0.25, 100), pytest.param(1.0, 1000, marks=pytest.mark.grid)]
)
def test_the_bound_of_the_ladder_is_the_published_one(double, variance, steps, estimator):
    _, x, *columns = hadamard(steps + 3)
    pair = ladder(variance, steps)
    particles = drawing.draw(
        pair.model, pair.guide, (variance**0.5 * x[:, None],), guide_handler=Signs(columns)
    )
    assert float(-estimator.bound(particles).mean()) == pytest.approx(KNOWN[variance, steps][0], abs=1e-9)


@pytest.mark.parametrize(("variance", "steps"), KNOWN)
def test_the_bound_of_one_site_is_the_published_one(double, monkeypatch, variance, steps):
    """Times are spread evenly over the data, so that with four signs each step is met with all of them."""
    rows = 4 * (steps or 50_000)
    x, noise = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1]]).repeat(1, rows // 4)[..., None]
    monkeypatch.setattr(torch, "randn_like", lambda like: noise)
    schedule = nets.NoiseSchedule()
    q = diffusion.Noised(variance**0.5 * x, schedule, 1)
    p = diffusion.Denoised(Best(variance), schedule, torch.zeros(1), steps)
    divergence = torch.distributions.kl_divergence(q, p).mean()
    z = q.base_dist.loc + q.base_dist.scale * noise
    likelihood = models.diffusion.read_off(z, schedule, None, 1).log_prob(variance**0.5 * x).mean()
    assert float(divergence - likelihood) == pytest.approx(
        KNOWN[variance, steps][0], abs=1e-9 if steps else 1e-4
    )


@pytest.mark.parametrize(("variance", "steps"), [key for key in KNOWN if key[1]])
def test_the_chain_has_the_known_likelihood(double, variance, steps):
    """Each step is linear, so p(x) is normal, and its variance follows step by step."""
    gammas, one, total = nets.NoiseSchedule()(torch.linspace(0, 1, steps + 1)), torch.ones(1), torch.ones(())
    for gamma, below in zip(gammas.flip(0)[:-1], gammas.flip(0)[1:]):
        loc, scale = step_back(one, without_noise(one, Best(variance)(one, gamma), gamma), gamma, below)
        total = loc.square().sum() * total + scale.square()
    total = total / signal(gammas[0]).square() + (noise_scale(gammas[0]) / signal(gammas[0])).square()
    exact = 0.5 * (2 * math.pi * total).log() + 0.5 * variance / total
    assert float(exact) == pytest.approx(KNOWN[variance, steps][1], abs=1e-9)


def two_forms(levels=None, steps=4):
    torch.manual_seed(0)
    denoiser = nets.MLPDenoiser((3,), (8,), num_frequencies=2)
    schedule = nets.NoiseSchedule(-4.0, 2.0, num_units=3, shift=0.2, factor=1.5)
    for parameter in denoiser.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    many = models.DiffusionLadder(denoiser, schedule, steps, levels)
    one = models.Diffusion(denoiser, schedule, steps, levels=levels)
    return pv.Pair(many, guides.NoisingLadder(schedule, steps)), pv.Pair(one, guides.Noising(schedule))


def test_both_forms_have_one_bound(double):
    x = torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.0, 0.0]])
    found = []
    for pair in two_forms(levels=3):
        draws = [evaluate.bounds(pair, x.repeat(4000, 1), seed=seed).per_datum for seed in (0, 1)]
        found.append(torch.stack(draws).view(-1, 2))
    ladder, site = found
    error = (ladder.var(0) / len(ladder) + site.var(0) / len(site)).sqrt()
    assert bool(((ladder.mean(0) - site.mean(0)).abs() < SIGMAS * error).all())


def test_the_steps_keep_each_level_alone(double):
    """Drawn step by step or at once, z_t given x is normal with the schedule's signal and noise."""
    gammas = nets.NoiseSchedule(num_units=4)(torch.linspace(0, 1, 6))
    data, variance = torch.tensor(0.7), noise_scale(gammas[-1]).square()
    loc = signal(gammas[-1]) * data
    for gamma, below in zip(gammas.flip(0)[:-1], gammas.flip(0)[1:]):
        slope = (
            step_back(torch.tensor(1.0), data, gamma, below)[0] - step_back(0 * data, data, gamma, below)[0]
        )
        loc, scale = step_back(loc, data, gamma, below)
        variance = slope.square() * variance + scale.square()
        torch.testing.assert_close(loc, signal(below) * data)
        torch.testing.assert_close(variance, noise_scale(below).square())


def test_samples_of_normal_data_are_normal(double):
    schedule = nets.NoiseSchedule()
    expected = math.exp(2 * KNOWN[0.25, 100][1] - 1) / (
        2 * math.pi
    )  # nearly 0.25: close to the best code length
    for steps in (100, None):
        pair = pv.Pair(models.Diffusion(Best(0.25), schedule, steps), guides.Noising(schedule))
        pair.remember((torch.zeros(2, 1),))
        drawn = pv.sample(pair, 4000, seed=0).value
        assert abs(float(drawn.var()) - expected) < SIGMAS * 0.25 * (2 / 4000) ** 0.5 + 0.03
        assert abs(float(drawn.mean())) < SIGMAS * (0.25 / 4000) ** 0.5


@pytest.mark.grid
def test_it_learns_what_the_data_are():
    torch.manual_seed(0)
    x = 0.5 * torch.randn(1500, 1)
    schedule = nets.NoiseSchedule(-6.0, 5.0)
    pair = pv.Pair(models.Diffusion(nets.MLPDenoiser((1,), (16,)), schedule), guides.Noising(schedule))
    start = evaluate.bounds(pair, x, 20).elbo
    pv.fit(pair, estimators.MeanFieldELBO(), x, epochs=6, learning_rate=2e-2, progress=False, capture=False)
    found = evaluate.bounds(pair, x, 20)
    assert start < -0.9
    assert found.elbo == pytest.approx(-0.7258, abs=0.08)


def test_what_needs_a_density_refuses_by_name():
    _, pair = two_forms()
    x = torch.randn(4, 3)
    assert "latent    z  [3]" in str(check_pair(pair, x, estimator=estimators.MeanFieldELBO()))
    with pytest.raises(
        pv.PairError, match=r"(?s)\['z'\] have no density.*Valid for it: estimators.MeanFieldELBO$"
    ):
        check_pair(pair, x, estimator=estimators.IWAE(2))
    with pytest.raises(pv.PairError, match=r"\['z'\] have no density"):
        pv.fit(pair, estimators.ELBO(), data.Split.from_tensor(x), epochs=1, progress=False)
    with pytest.raises(pv.PairError, match=r"site 'z': Denoised has no density.*estimators.MeanFieldELBO"):
        estimators.ELBO().loss(pair.model, pair.guide, x)
    with pytest.raises(pv.PairError, match="site 'z': Denoised has no density"):
        evaluate.log_likelihood(pair, x, 5, progress=False)


def test_two_schedules_have_no_divergence():
    _, pair = two_forms()
    other = pv.Pair(pair.model, guides.Noising(nets.NoiseSchedule()))
    with pytest.raises(pv.PairError, match=r"follow two schedules.*guides\.Noising"):
        evaluate.bounds(other, torch.randn(4, 3))


def test_a_guide_without_a_known_divergence_is_refused():
    _, pair = two_forms()
    other = pv.Pair(pair.model, guides.MeanField(nets.MLPEncoder((3,), 3, (4,))))
    with pytest.raises(
        pv.PairError, match="no divergence is known of the guide's Normal from the model's Denoised"
    ):
        evaluate.bounds(other, torch.randn(4, 3))
    with pytest.raises(pv.PairError, match="site 'z': it has no density"):
        pv.fit(other, estimators.MeanFieldELBO(), torch.randn(4, 3), epochs=1, progress=False)


def test_particles_one_by_one_have_the_divergence_too(double):
    _, pair = two_forms()
    alone = pv.Pair(pair.model, pair.guide, vectorize=False)
    x = torch.randn(2, 3)
    found = [evaluate.bounds(each, x, 400).per_datum for each in (pair, alone)]
    assert bool(((found[0] - found[1]).abs() < 1.5).all())
    with pytest.raises(pv.PairError, match="has no density"):
        evaluate.log_likelihood(alone, x, 3, progress=False)


def test_wrong_numbers_are_refused():
    schedule, denoiser = nets.NoiseSchedule(), nets.MLPDenoiser((2,))
    for wrong in ({"levels": 1}, {"levels": True}, {"num_steps": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            models.DiffusionLadder(denoiser, schedule, **wrong)
    with pytest.raises(ValueError, match="sampling_steps"):
        models.Diffusion(denoiser, schedule, sampling_steps=0)


def test_times_are_uniform_and_evenly_spread():
    times = diffusion.spread(torch.zeros(4, 25))
    assert times.shape == (4, 25)
    gaps = times.flatten().sort().values.diff()
    torch.testing.assert_close(gaps, torch.full((99,), 0.01), rtol=0, atol=1e-6)
