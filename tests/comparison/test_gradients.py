from __future__ import annotations

import pyro.infer
import pytest
import torch
from torch import nn

from ppl_vae import Pair, estimators, guides, likelihoods, models, nets
from ppl_vae.comparison.cost import AliveBytes, cost
from ppl_vae.comparison.functional import FreshNoise
from ppl_vae.comparison.gradients import GradientSampler, layout_of
from ppl_vae.core.isolation import random_numbers
from ppl_vae.estimators import (
    CIWAE,
    IWAE,
    MIWAE,
    PIWAE,
    STL,
    TVO,
    VIMCO,
    DisARM,
    DReG,
    MeanFieldELBO,
    Renyi,
    ReweightedWakeSleep,
    ScoreFunction,
)  # fmt: skip
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel, ChainGuide, ChainModel


def single(sampler, run, seed=5):
    """One gradient, by a map over one draw or by a loop, on the same noise."""
    with random_numbers(seed, torch.device("cpu")):
        return run(1).gradient[0]


PATHWISE = [
    estimators.ELBO(3), MeanFieldELBO(2), IWAE(4), Renyi(0.5, 3), STL(3), DReG(4, alpha=0.3), PIWAE(2, 3),
    MIWAE(2, 2), CIWAE(0.4, 3), TVO(3),
]  # fmt: skip
CASES = [
    *[(make_pair, (4, 5), each) for each in PATHWISE],
    *[(lambda: Pair(ChainModel(), ChainGuide()), (3, 2), each) for each in (IWAE(3), STL(2), DReG(3))],
    *[
        (lambda: Pair(BernoulliModel(), BernoulliGuide()), (4,), each)
        for each in (IWAE(3), VIMCO(4), DisARM(2))
    ],
]


@pytest.mark.parametrize(("make", "shape", "estimator"), CASES, ids=lambda v: str(v) if "(" in str(v) else "")
def test_a_map_over_draws_gives_the_gradient_of_training(double, make, shape, estimator):
    pair = make(perturb=0.2) if make is make_pair else make()
    sampler = GradientSampler(pair, estimator, (torch.randn(shape),))
    assert sampler.vectorised, sampler.why_not
    mapped, looped = single(sampler, sampler._mapped), single(sampler, sampler._looped)
    assert looped.abs().max() > 1e-3
    torch.testing.assert_close(mapped, looped, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_that_of_the_mean_bound_in_nats_per_datum(double):
    pair, x = make_pair(perturb=0.2), torch.randn(4, 5)
    sampler = GradientSampler(pair, IWAE(3), (x,))
    with random_numbers(5, torch.device("cpu")):
        loss = IWAE(3).differentiable_loss(pair.model, pair.guide, x) / len(x)
    named = dict(pair.named_parameters())
    expected = torch.autograd.grad(-loss, [named[name] for name in sampler.layout.names])
    torch.testing.assert_close(single(sampler, sampler._mapped), torch.cat([g.flatten() for g in expected]))


def test_every_draw_of_a_map_has_noise_of_its_own():
    sampler = GradientSampler(make_pair(perturb=0.2), IWAE(2), (torch.randn(3, 5),))
    bounds = torch.cat([drawn.bound for drawn in sampler.draw(50, 0)])
    assert len(bounds.unique()) == 50


def test_estimators_of_one_k_share_their_noise_and_seeds_differ():
    pair, x = make_pair(perturb=0.2), torch.randn(3, 5)
    first, second, other = (
        next(GradientSampler(pair, estimator, (x,)).draw(20, seed)).bound
        for estimator, seed in ((IWAE(4), 1), (DReG(num_particles=4), 1), (IWAE(4), 2))
    )
    torch.testing.assert_close(first, second)
    assert (first != other).all()


def test_a_convolutional_pair_is_mapped():
    encoder, decoder = nets.ConvEncoder((1, 8, 8), 2, 4), nets.ConvDecoder(2, (1, 8, 8), 4)
    pair = Pair(models.VAE(likelihoods.Bernoulli(), decoder, 2), guides.MeanField(encoder))
    sampler = GradientSampler(pair, DReG(num_particles=2), (torch.rand(3, 1, 8, 8).round(),))
    assert sampler.vectorised, sampler.why_not


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (pyro.infer.Trace_ELBO(), "Pyro's own"),
        (ScoreFunction(2), "torch.func"),
        (ReweightedWakeSleep(3, insomnia=0.5), "own way"),
    ],
)
def test_what_cannot_be_mapped_is_drawn_in_a_loop_and_says_why(estimator, why):
    sampler = GradientSampler(Pair(BernoulliModel(), BernoulliGuide()), estimator, (torch.randn(4),))
    assert not sampler.vectorised
    assert why in sampler.why_not
    (drawn,) = sampler.draw(3, 0)
    assert drawn.bound.shape == (3,)
    assert drawn.gradient.shape == (3, sampler.layout.total)
    assert (drawn.gradient.std(0) > 0).any()


class ReadsValues(ChainGuide):
    def forward(self, x, mask=None):
        drawn = super().forward(x, mask)
        assert not bool((drawn > 1e6).any())  # a program that looks at its draws
        return drawn


def test_a_program_that_looks_at_its_draws_is_drawn_in_a_loop():
    sampler = GradientSampler(Pair(ChainModel(), ReadsValues()), IWAE(2), (torch.randn(3, 2),))
    assert "torch.func cannot map it" in sampler.why_not


class Halved(IWAE):
    """An estimator whose gradient depends on whether torch.func is at work."""

    def surrogate(self, particles):
        bound = self.bound(particles)
        return bound if torch._C._functorch.peek_interpreter_stack() is None else 0.5 * bound


def test_a_map_that_gives_another_gradient_than_training_is_not_used(double):
    sampler = GradientSampler(make_pair(perturb=0.2), Halved(2), (torch.randn(3, 5),))
    assert "not" in sampler.why_not
    with random_numbers(5, torch.device("cpu")):
        expected = GradientSampler(sampler.pair, IWAE(2), sampler.batch)._looped(1).gradient
    torch.testing.assert_close(single(sampler, sampler._run), expected[0])


@pytest.mark.parametrize(
    "estimator", [IWAE(2), pyro.infer.RenyiELBO(num_particles=2, vectorize_particles=True)]
)
def test_the_pair_is_left_as_it_was(estimator):
    pair, x = make_pair(), torch.randn(3, 5)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    next(iter(pair.parameters())).grad = torch.ones_like(next(iter(pair.parameters())))
    pair.train()
    state = torch.get_rng_state()
    list(GradientSampler(pair, estimator, (x,)).draw(5, 0))
    cost(pair, estimator, (x,), repeats=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert pair.training
    assert all(torch.equal(before[name], value) for name, value in pair.state_dict().items())
    grads = [parameter.grad for parameter in pair.parameters()]
    assert torch.equal(grads[0], torch.ones_like(grads[0]))
    assert all(grad is None for grad in grads[1:])


def test_an_estimator_that_remembers_is_not_changed():
    estimator = ScoreFunction(2)
    list(GradientSampler(Pair(BernoulliModel(), BernoulliGuide()), estimator, (torch.randn(4),)).draw(3, 0))
    assert float(estimator.average.weight) == 0.0


def test_shared_parameters_count_as_the_models_and_frozen_ones_do_not():
    model, guide = ChainModel(), ChainGuide()
    guide.shared = model.weight
    guide.slope.requires_grad_(False)
    layout = layout_of(Pair(model, guide))
    assert layout.names == ("model.weight", "guide.log_scale")
    assert layout.size == {"model": 1, "guide": 1}


@pytest.mark.parametrize("name", ["normal_", "uniform_", "exponential_", "cauchy_"])
def test_noise_in_place_becomes_noise_that_a_map_draws_anew(name):
    def draw(_):
        return getattr(torch.empty(400), name)()

    with FreshNoise():
        drawn = torch.func.vmap(draw, randomness="different")(torch.zeros(50)).double()
    assert drawn.unique().numel() > 10_000
    probabilities = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = {
        "normal_": normal.icdf(probabilities.float()).double(),
        "uniform_": probabilities,
        "exponential_": -(1 - probabilities).log(),
        "cauchy_": (torch.pi * (probabilities - 0.5)).tan(),
    }[name]
    below = (drawn.flatten()[:, None] <= expected).double().mean(0)
    error = (probabilities * (1 - probabilities) / drawn.numel()).sqrt()
    assert ((below - probabilities).abs() < 4.5 * error).all()


def test_memory_counts_what_is_alive_and_grows_with_k():
    with AliveBytes() as alive:
        value = torch.zeros(1000)
        for _ in range(10):
            value = value + 1
    assert alive.peak == 8000  # the old and the new value
    pair, x = make_pair(), torch.randn(8, 5)
    small, large = (cost(pair, IWAE(size), (x,), repeats=1)[1] for size in (10, 1000))
    assert 20 < large / small < 110


class Linear(nn.Module):
    def forward(self, x):
        return x


def test_a_pair_without_parameters_is_an_error():
    with pytest.raises(ValueError, match="requires_grad_"):
        layout_of(Pair(Linear(), Linear()))
