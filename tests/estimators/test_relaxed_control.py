"""REBAR and RELAX: their conditional noise, their gradients against every state, and what they refuse."""

from __future__ import annotations

import copy
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import PairError, estimators
from ppl_vae.estimators import REBAR, RELAX
from ppl_vae.estimators.conditional_noise import noisy_draw
from tests.capture.helpers import assert_same_steps, sgd
from tests.conftest import SIGMAS
from tests.estimators.states import STATES, exact_elbo, make

pytestmark = pytest.mark.usefixtures("double")
CHUNKS = 40
SIZES = {"six bits": 6, "two layers": 6, "three layers": 6, "two codes": 16, "inner plate": 5}


def control(name):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(SIZES[name] + 3, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def flat(pair, loss):
    found = torch.autograd.grad(loss, list(pair.parameters()), allow_unused=True)
    return torch.cat(
        [
            torch.zeros(p.numel()) if g is None else g.flatten()
            for g, p in zip(found, pair.parameters(), strict=True)
        ]
    )


def gradients(pair, estimator, x, repeats=100):
    many = x.repeat(repeats, 1)
    return torch.stack(
        [
            flat(pair, -estimator.differentiable_loss(pair.model, pair.guide, many) / len(many))
            for _ in range(CHUNKS)
        ]
    )


def check_unbiased(pair, estimator, x):
    wanted = flat(pair, exact_elbo(pair, x))
    found = gradients(pair, estimator, x)
    error = found.std(0) / CHUNKS**0.5 + 1e-9
    assert ((found.mean(0) - wanted).abs() < 6 * error).all()
    assert (wanted.abs() > 6 * error).any()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.grid] * (name == "three layers")) for name in STATES]
)
def test_the_gradient_against_every_state(name):
    pair, x = make(name)
    check_unbiased(pair, RELAX(control(name), 2, temperature=0.4), x)


@pytest.mark.grid
@pytest.mark.parametrize("name", ["six bits", "two codes"])
def test_with_one_particle_and_any_strength(name):
    pair, x = make(name)
    estimator = REBAR(temperature=1.2)
    estimator.auxiliary.strength.data.fill_(-0.7)
    check_unbiased(pair, estimator, x)


OTHERS = {
    "plain": lambda name: estimators.ELBO(2),
    "score function": lambda name: estimators.ScoreFunction(2),
    "nvil": lambda name: estimators.NVIL(nn.Linear(3, 1).double(), 2),
    "disarm": lambda name: estimators.DisARM(),
}


@pytest.mark.grid
@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("other", OTHERS)
def test_the_others_against_every_state(name, other):
    pair, x = make(name)
    estimator = OTHERS[other](name)
    if other == "disarm" and name != "six bits":
        with pytest.raises(PairError, match="DisARM"):
            estimator.loss(pair.model, pair.guide, x.repeat(50, 1))
        return
    check_unbiased(pair, estimator, x)


@pytest.mark.parametrize("name", ["two layers", pytest.param("two codes", marks=pytest.mark.grid)])
def test_a_captured_step_equals_the_eager_one(name):
    pair, x = make(name)
    assert_same_steps(pair, RELAX(control(name), 2), [(x.repeat(4, 1),)], make=sgd, steps=2)


class Sharing(nn.Module):
    """A control variate on the guide's own encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.last = encoder, nn.Linear(6, 1)

    def forward(self, rows):
        return self.last(rows[..., :6] * self.encoder(rows[..., 6:])[0])


class Constant(nn.Module):
    def forward(self, rows):
        return torch.zeros_like(rows[..., :1])


def with_seed(pair, estimator, x):
    torch.manual_seed(3)
    return flat(pair, estimator.differentiable_loss(pair.model, pair.guide, x))


def test_a_control_that_shares_the_encoder_leaves_it_to_the_bound():
    pair, x = make("six bits")
    shared = Sharing(pair.guide.encoder).double()
    alone = with_seed(pair, RELAX(copy.deepcopy(shared)), x)
    torch.testing.assert_close(with_seed(pair, RELAX(shared), x), alone, rtol=1e-12, atol=1e-12)


def test_a_control_without_z_or_anything_to_learn_adds_nothing():
    pair, x = make("six bits")
    torch.testing.assert_close(with_seed(pair, RELAX(Constant()), x), with_seed(pair, REBAR(), x))


def test_the_variance_is_that_of_no_other():
    pair, x = make("six bits")
    guide = len(flat(pair.model, sum(p.sum() for p in pair.model.parameters())))

    def spread(estimator):
        return float(gradients(pair, estimator, x, 50)[:, guide:].var(0).sum())

    assert spread(REBAR(temperature=0.5)) < 0.5 * spread(estimators.ELBO())


def test_what_is_learned_lowers_the_variance():
    pair, x = make("six bits")
    estimator = RELAX(control("six bits"), temperature=0.5)
    estimator.auxiliary.double()
    estimator.auxiliary.strength.data.fill_(3.0)
    optimizer = torch.optim.Adam(estimator.auxiliary.parameters(), lr=0.05)
    many = x.repeat(20, 1)
    before = gradients(pair, estimator, x, 20).var(0).sum()
    for _ in range(40):
        optimizer.zero_grad()
        estimator.differentiable_loss(pair.model, pair.guide, many).backward()
        optimizer.step()
    assert 0.3 < float(estimator.auxiliary.strength.detach()) < 2
    assert gradients(pair, estimator, x, 20).var(0).sum() < 0.5 * before


@pytest.mark.parametrize("bits", [True, False], ids=["bits", "one-hot"])
def test_given_the_draw_the_noise_is_uniform_whatever_the_logits(bits):
    """d/dl E[g(z') | b] by what moves z', against a difference quotient of exact conditional means."""
    logits, count = torch.tensor([0.6, -0.8, 0.3]), 60_000

    def kind(logits):
        return dist.Bernoulli(logits=logits) if bits else dist.OneHotCategorical(logits=logits)

    def seen(noisy):
        """A smooth function of the draw; adding to all logits of a vector changes nothing in it."""
        return (noisy.relaxed(noisy.z, 1.0) * torch.tensor([1.0, -0.5, 2.0])).sum(-1)

    noisy = noisy_draw(kind(logits.expand(count, 3)))
    z = noisy.z.clone().requires_grad_()
    found = noisy.moved(torch.autograd.grad(seen(replace(noisy, z=z)).sum(), z)[0])
    first = torch.tensor([1.0, 0.0, 0.0])
    slope = found[(noisy.value == first).all(-1)]

    def mean(logits):
        torch.manual_seed(5)
        again = noisy_draw(kind(logits.expand(count, 3)))
        values = seen(again)[(again.value == first).all(-1)]
        return values.mean(), values.std() / len(values) ** 0.5

    for j in range(3):
        step = torch.zeros(3).index_fill(0, torch.tensor([j]), 0.2)
        (up, first_error), (down, second_error) = mean(logits + step), mean(logits - step)
        error = slope[:, j].std() / len(slope) ** 0.5 + torch.hypot(first_error, second_error) / 0.4
        # the quotient itself is off by a thousandth
        assert abs(slope[:, j].mean() - (up - down) / 0.4) < SIGMAS * error + 1e-3
    assert slope.mean(0).abs().max() > 0.05


class OfRows(nn.Module):
    """A bit for each of the data, of which half are taken at a time."""

    def __init__(self, is_model, size=None):
        super().__init__()
        self.is_model, self.size = is_model, size
        self.p = nn.Parameter(torch.tensor([0.4, 0.8]))

    def forward(self, x):
        with pyro.plate("data", len(x), subsample_size=self.size and len(x) // self.size, dim=-1) as rows:
            own = x[rows]
            z = pyro.sample("z", dist.Bernoulli(logits=self.p[0] if self.is_model else self.p @ own.T))
            if self.is_model:
                pyro.sample("x", dist.Normal(z * self.p[1], 1.0), obs=own[:, 0])


def test_a_plate_that_subsamples_takes_the_same_rows_again():
    x = torch.tensor([[2.0, 1.0], [-1.0, 1.0], [0.5, 1.0], [-3.0, 1.0]])
    whole = pv.Pair(OfRows(True), OfRows(False))
    wanted = flat(whole, exact_elbo(whole, x))
    half = pv.Pair(OfRows(True, 2), OfRows(False, 2))
    found = gradients(half, RELAX(nn.Linear(3, 1), temperature=0.7), x, 250)
    error = found.std(0) / CHUNKS**0.5
    assert ((found.mean(0) - wanted).abs() < 6 * error).all()


def indexed(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Bernoulli(logits=x.new_zeros(2)).to_event(1))
        pyro.sample("x", dist.Normal(torch.tensor([0.0, 2.0])[z.long()], 1.0).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=self.logits).to_event(1))


def test_a_program_that_indexes_by_its_bits_is_refused():
    pair = pv.Pair(indexed, Guide())
    with pytest.raises(PairError, match=r"site 'z'.*do not compute with them as numbers.*estimators.DisARM"):
        REBAR().differentiable_loss(pair.model, pair.guide, torch.randn(8, 2))


def test_other_discrete_sites_are_refused():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Categorical(logits=x.new_zeros(3)))
            pyro.sample("x", dist.Normal(z.to(x), 1.0), obs=x)

    class Integers(Guide):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Categorical(logits=self.logits[[0, 1, 1]]))

    pair = pv.Pair(model, Integers())
    with pytest.raises(PairError, match=r"\['z'\] are neither: of a Categorical make a OneHotCategorical"):
        REBAR().loss(pair.model, pair.guide, torch.randn(4))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        REBAR(temperature=0)
    pair, x = make("six bits")
    with pytest.raises(ValueError, match=r"RELAX's control must give one number.*\[1, 2, 4\]"):
        RELAX(nn.Linear(9, 4).double()).differentiable_loss(pair.model, pair.guide, x)
