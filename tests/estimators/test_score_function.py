"""Baselines: what they are, that they lower the variance, and that they learn."""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import Pair, estimators, fit, guides, likelihoods, models, nets, priors
from ppl_vae.estimators.moving_average import MovingAverage
from ppl_vae.estimators.score_function import without_each
from ppl_vae.testing import oracles

pytestmark = pytest.mark.usefixtures("double")


def variance(estimator, oracle, count=300):
    found = []
    for _ in range(count):
        loss = estimator.differentiable_loss(oracle.pair.model, oracle.pair.guide, *oracle.batch)
        found.append(torch.autograd.grad(loss, oracle.pair.guide.slope, retain_graph=False)[0])
    return torch.stack(found).var(0).sum().item()


def test_a_moving_average_has_no_memory_of_its_start():
    average = MovingAverage(0.9)
    assert average() == 0
    average.add(torch.tensor(5.0))
    torch.testing.assert_close(average(), torch.tensor(5.0))
    average.add(torch.tensor(7.0))
    wanted = (0.9 * 5 + 7) / 1.9
    torch.testing.assert_close(average(), torch.tensor(wanted))


def test_vimcos_signal_is_the_definition():
    oracle = oracles.bernoulli(0.4)
    estimator = estimators.VIMCO(4)
    particles = estimator.draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
    without = without_each(particles.log_weight)
    for k in range(4):
        replaced = particles.log_weight.detach().clone()
        replaced[k] = replaced[[j for j in range(4) if j != k]].mean(0)
        torch.testing.assert_close(without[k], replaced.logsumexp(0) - torch.tensor(4.0).log())


def test_vimco_has_less_variance_than_the_plain_score_function():
    oracle = oracles.bernoulli(0.4)
    assert variance(estimators.VIMCO(5), oracle) < 0.25 * variance(estimators.IWAE(5), oracle)


def test_baselines_lower_the_variance():
    oracle = oracles.bernoulli(0.4)
    plain = variance(estimators.ELBO(), oracle)
    moving = estimators.ScoreFunction(decay=0.9)
    variance(moving, oracle, 50)
    moved = variance(moving, oracle)
    assert moved < 0.6 * plain
    learned = estimators.NVIL(nn.Linear(2, 1), decay=0.9)
    learn(learned, oracle, 300)
    assert variance(learned, oracle) < 0.95 * moved


def learn(estimator, oracle, steps):
    optimizer = torch.optim.Adam(estimator.auxiliary.parameters(), lr=3e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        estimator.differentiable_loss(oracle.pair.model, oracle.pair.guide, *oracle.batch).backward()
        optimizer.step()


def test_the_learned_baseline_is_the_elbo_of_each_datum():
    oracle, estimator = oracles.bernoulli(), estimators.NVIL(nn.Linear(2, 1))
    learn(estimator, oracle, 600)
    predicted = estimator.baseline(oracle.batch[0]).squeeze(-1) + estimator.average()
    # at the exact posterior log w is the evidence, without noise
    torch.testing.assert_close(predicted, oracle.log_evidence(*oracle.batch), rtol=0, atol=0.05)


def test_a_baseline_on_the_encoder_leaves_it_to_the_bound():
    """Its least squares are no bound; once they were added to the guide's gradient."""
    torch.manual_seed(0)
    encoder = nets.MLPEncoder((3,), 4, (5,))
    model = models.VAE(likelihoods.Bernoulli(1), nets.MLPDecoder(4, (3,), (5,)), 4, priors.Bernoulli(4))
    pair, x = Pair(model, guides.Bernoulli(encoder)), torch.rand(6, 3).round()
    shared = nn.Sequential(encoder.trunk, nn.LazyLinear(1))
    shared(x)
    found = []
    for baseline in (shared, copy.deepcopy(shared)):
        torch.manual_seed(1)
        loss = estimators.NVIL(baseline).differentiable_loss(pair.model, pair.guide, x)
        learned = [*encoder.parameters(), *baseline[1].parameters()]
        found.append(torch.autograd.grad(loss, learned, allow_unused=True))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][-1].any()
    run = fit(
        pair, estimators.NVIL(shared), x, epochs=1, progress=False, capture=False
    )  # each parameter once
    assert run.history["train_elbo"].notna().all()


def test_state_is_saved_and_restored():
    oracle, estimator = oracles.bernoulli(0.3), estimators.NVIL(nn.Linear(2, 1))
    learn(estimator, oracle, 5)
    other = estimators.NVIL(nn.Linear(2, 1))
    other.auxiliary.load_state_dict(estimator.auxiliary.state_dict())
    losses = []
    for one in (estimator, other, copy.deepcopy(estimator)):
        pyro.set_rng_seed(0)
        particles = one.draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
        losses.append(torch.autograd.grad(one.surrogate(particles).sum(), oracle.pair.guide.slope)[0])
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_the_reported_loss_is_the_bound_alone():
    oracle, estimator = oracles.bernoulli(), estimators.NVIL(nn.Linear(2, 1))
    loss = estimator.differentiable_loss(oracle.pair.model, oracle.pair.guide, *oracle.batch)
    torch.testing.assert_close(-loss, oracle.log_evidence(*oracle.batch).sum())


def test_normalise_divides_the_signal():
    oracle, net = oracles.bernoulli(0.4), nn.Linear(2, 1)
    plain, scaled = estimators.NVIL(net), estimators.NVIL(net, normalise=True)
    for one in (plain, scaled):
        one.average.add(torch.tensor(-3.0))
        one.square.add(torch.tensor(16.0))
    found = []
    for one in (plain, scaled):
        pyro.set_rng_seed(0)
        loss = one.differentiable_loss(oracle.pair.model, oracle.pair.guide, *oracle.batch)
        found.append(torch.autograd.grad(loss, oracle.pair.guide.slope)[0])
    torch.testing.assert_close(found[1], found[0] / 4)


class MixedModel(nn.Module):
    """A bit, then a normal given it."""

    def __init__(self):
        super().__init__()
        self.gap = nn.Parameter(torch.tensor(1.2))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            bit = pyro.sample("bit", dist.Bernoulli(x.new_tensor(0.4)))
            z = pyro.sample("z", dist.Normal(self.gap * bit, 1.0))
            pyro.sample("x", dist.Normal(z, 0.8), obs=x)


class MixedGuide(nn.Module):
    """The normal first, then the bit given it: the score of the bit hangs on a pathwise draw."""

    def __init__(self):
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.tensor(0.4)), nn.Parameter(torch.tensor(0.2))
        self.logit = nn.Parameter(torch.tensor(0.9))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(self.slope * x + self.offset, 0.7))
            pyro.sample("bit", dist.Bernoulli(logits=self.logit * z - 0.3))


def mixed_elbo(pair, x):
    """The ELBO of the mixed pair by quadrature over z, on a fixed grid, and summation over the bit."""
    guide = pair.guide
    grid = torch.linspace(-7, 7, 4001)[:, None]
    log_q = dist.Normal(guide.slope * x + guide.offset, 0.7).log_prob(grid)
    total = 0.0
    for bit in (0.0, 1.0):
        value = torch.tensor(bit)
        log_bit = dist.Bernoulli(logits=guide.logit * grid - 0.3).log_prob(value)
        log_p = dist.Bernoulli(0.4).log_prob(value) + dist.Normal(pair.model.gap * bit, 1.0).log_prob(grid)
        log_w = log_p + dist.Normal(grid, 0.8).log_prob(x) - log_q - log_bit
        total = total + torch.trapezoid((log_q + log_bit).exp() * log_w, grid, dim=0)
    return total


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.ELBO(2),
        estimators.ScoreFunction(2),
        estimators.NVIL(nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 1)).double(), 2),
        estimators.PIWAE(2, 1),
        estimators.MIWAE(2, 1),
        estimators.CIWAE(1.0, 2),
    ],
    ids=lambda e: type(e).__name__,
)
def test_mixed_guides_have_unbiased_gradients(estimator):
    estimator = copy.deepcopy(estimator)
    pair, x, chunks = Pair(MixedModel(), MixedGuide()).double(), torch.tensor([0.3, 1.1]), 40
    wanted = torch.autograd.grad(mixed_elbo(pair, x).mean(), list(pair.parameters()))
    # PIWAE's model follows another bound
    wanted = torch.stack(wanted)[1 if isinstance(estimator, estimators.PIWAE) else 0 :]
    found = []
    for _ in range(chunks):
        loss = -estimator.differentiable_loss(pair.model, pair.guide, x.repeat(1500)) / 3000
        found.append(torch.stack(torch.autograd.grad(loss, list(pair.parameters())))[-len(wanted) :])
    sampled = torch.stack(found)
    error = sampled.std(0) / chunks**0.5
    assert ((sampled.mean(0) - wanted).abs() < 6 * error).all()
    assert (wanted.abs() > 10 * error).any(), "the test would not notice a missing gradient"


def test_one_particle_has_no_others():
    with pytest.raises(ValueError, match="VIMCO needs num_particles >= 2"):
        estimators.VIMCO(1)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_is_a_share(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        estimators.ScoreFunction(decay=decay)


def test_a_baseline_gives_one_number_a_datum():
    oracle = oracles.bernoulli()
    with pytest.raises(ValueError, match="one number for each of the 2 data"):
        estimators.NVIL(nn.Linear(2, 3)).loss_and_grads(oracle.pair.model, oracle.pair.guide, *oracle.batch)
