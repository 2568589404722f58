"""STL and DReG: the identities of their gradients, and how their signal grows."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_vae import Pair, PairError, estimators
from ppl_vae.estimators import STL, DReG
from ppl_vae.testing import oracles
from tests.programs import BernoulliGuide, BernoulliModel

pytestmark = pytest.mark.usefixtures("double")


def gradient(estimator, oracle, role, seed=0, repeats=1):
    pyro.set_rng_seed(seed)
    batch = tuple(t.repeat(repeats, 1) for t in oracle.batch)
    loss = -estimator.differentiable_loss(oracle.pair.model, oracle.pair.guide, *batch) / len(batch[0])
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(getattr(oracle.pair, role).parameters()))]
    )


def draws(estimator, oracle, role, count, repeats=1):
    return torch.stack([gradient(estimator, oracle, role, seed, repeats) for seed in range(count)])


@pytest.mark.parametrize("make", [lambda: oracles.linear_gaussian(0.3), oracles.chain])
@pytest.mark.parametrize("num_particles", [1, 5])
def test_half_way_dreg_is_half_of_stl(make, num_particles):
    oracle = make()
    torch.testing.assert_close(
        gradient(DReG(num_particles, alpha=0.5), oracle, "guide"),
        0.5 * gradient(STL(num_particles), oracle, "guide"),
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0, -1.0])
def test_weights_are_linear_in_alpha(alpha):
    oracle = oracles.linear_gaussian(0.3)
    ends = [gradient(DReG(5, alpha=end), oracle, "guide") for end in (0.0, 1.0)]
    torch.testing.assert_close(
        gradient(DReG(5, alpha=alpha), oracle, "guide"), (1 - alpha) * ends[0] + alpha * ends[1]
    )


@pytest.mark.parametrize(
    "estimator", [STL(), STL(5), DReG(5), DReG(5, alpha=0.5), DReG(5, alpha=1.0)], ids=repr
)
def test_the_models_gradient_is_the_iwaes(estimator):
    oracle = oracles.chain()
    torch.testing.assert_close(
        gradient(estimator, oracle, "model"),
        gradient(estimators.IWAE(estimator.num_particles), oracle, "model"),
    )


@pytest.mark.parametrize("num_particles", [1, 8])
def test_no_variance_at_the_exact_posterior_but_the_iwae_has(num_particles):
    oracle = oracles.linear_gaussian()
    for estimator in (STL(num_particles), DReG(num_particles), DReG(num_particles, alpha=1.0)):
        assert draws(estimator, oracle, "guide", 20).abs().max() < 1e-9
    assert draws(estimators.IWAE(num_particles), oracle, "guide", 20).std(0).max() > 0.05


def averaged(estimator, oracle, role="guide", chunks=40, repeats=500):
    sampled = draws(estimator, oracle, role, chunks, repeats)
    return sampled.mean(0), sampled.std(0) / math.sqrt(chunks)


@pytest.mark.parametrize("make", [lambda: oracles.linear_gaussian(0.3), oracles.chain])
def test_alpha_one_is_wake_phi_doubly_reparameterised(make):
    """Same expectation at the same K, by another route: the score of the draws is never used by DReG."""
    oracle = make()
    dreg, dreg_error = averaged(DReG(4, alpha=1.0), oracle)
    wake, wake_error = averaged(estimators.ReweightedWakeSleep(4), oracle)
    error = (dreg_error.square() + wake_error.square()).sqrt() + 1e-12
    assert ((dreg - wake).abs() < 6 * error).all()
    assert (wake.abs() > 10 * error).any(), "the test would not notice another gradient"
    iwae, _ = averaged(estimators.IWAE(4), oracle)
    assert ((dreg - iwae).abs() > 10 * error).any(), "nor that it is not the bound's"


def test_stl_is_biased_for_more_than_one_particle():
    oracle = oracles.linear_gaussian(0.3)
    stl, stl_error = averaged(STL(4), oracle)
    dreg, dreg_error = averaged(DReG(4), oracle)
    assert ((stl - dreg).abs() > 10 * (stl_error.square() + dreg_error.square()).sqrt()).any()


@pytest.mark.parametrize(
    ("make", "role", "slope"),
    [
        (estimators.IWAE, "guide", -0.5),
        (lambda K: DReG(K), "guide", 0.5),
        (lambda K: DReG(K), "model", 0.5),
    ],
    ids=["IWAE guide", "DReG guide", "DReG model"],
)
def test_signal_to_noise_against_the_number_of_particles(make, role, slope):
    oracle, ladder, count = oracles.linear_gaussian(), (20, 80, 320), 1500
    with torch.no_grad():  # wider than the posterior, so that the weights have moments
        oracle.pair.guide.lower.mul_(1.3)
        oracle.pair.guide.offset.add_(0.3)
        oracle.pair.guide.slope.add_(0.1)
    ratios = []
    for num_particles in ladder:
        # all draws at once: each copy of the parameters belongs to one copy of the data
        sampled = _per_copy(make(num_particles), oracle, role, count)
        # the mean from many more draws than the noise needs: a low-variance stand-in with the same mean
        mean = _per_copy(DReG(num_particles), oracle, role, count).mean(0)
        ratios.append((mean.abs() / sampled.std(0)).log().mean().item())
    steps = [math.log(k) for k in ladder]
    fitted = (ratios[-1] - ratios[0]) / (steps[-1] - steps[0])
    assert abs(fitted - slope) < 0.25, ratios


def _per_copy(estimator, oracle, role, count):
    """(count, parameters): gradients of `count` independent draws, in one backward pass."""
    module, x = getattr(oracle.pair, role), oracle.batch[0][:1]
    names, shared = zip(*[(n, p.detach()) for n, p in module.named_parameters()], strict=True)
    copies = [p.expand(count, *p.shape).clone().requires_grad_() for p in shared]
    program = _Copies(names, copies, role)
    pair = {"model": oracle.pair.model, "guide": oracle.pair.guide, role: program}
    loss = -estimator.differentiable_loss(pair["model"], pair["guide"], x.expand(count, 2))
    found = torch.cat([g.reshape(count, -1) for g in torch.autograd.grad(loss, copies)], 1)
    return found[:, (found != 0).any(0)]  # a Cholesky factor has no gradient above its diagonal


class _Copies(torch.nn.Module):
    """The linear-Gaussian model or guide with parameters of its own for each datum."""

    def __init__(self, names, copies, role):
        super().__init__()
        self.values, self.role = dict(zip(names, copies, strict=True)), role

    def forward(self, x):
        v = self.values
        with pyro.plate("data", len(x), dim=-1):
            if self.role == "guide":
                loc = (v["slope"] @ x.unsqueeze(-1)).squeeze(-1) + v["offset"]
                return pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=v["lower"].tril()))
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            mean = (v["weight"] @ z.unsqueeze(-1)).squeeze(-1) + v["bias"]
            scale = v["log_scale"].exp().unsqueeze(-1)
            return pyro.sample("x", dist.Normal(mean, scale).to_event(1), obs=x)


@pytest.mark.parametrize("estimator", [STL(), DReG(3)], ids=repr)
def test_a_discrete_site_is_refused_by_name(estimator):
    pair = Pair(BernoulliModel(), BernoulliGuide())
    with pytest.raises(PairError, match=r"\['z'\] have none. Use estimators.VIMCO"):
        estimator.loss(pair.model, pair.guide, torch.randn(4))


def test_stl_with_one_particle_takes_a_kl_weight():
    assert STL().takes_kl_weight
    assert not STL(2).takes_kl_weight
    oracle = oracles.linear_gaussian(0.3)
    x, pair = oracle.batch[0].repeat(300, 1), oracle.pair
    means = []
    for estimator in (STL(), estimators.ELBO()):
        found = []
        for seed in range(40):
            pyro.set_rng_seed(seed)
            particles = estimator.draw(pair.model, pair.guide, x).with_kl_weight({"z": 0.2})
            found.append(torch.autograd.grad(estimator.total(particles) / len(x), pair.guide.slope)[0])
        means.append((torch.stack(found).mean(0), torch.stack(found).std(0) / math.sqrt(40)))
    (stl, stl_error), (elbo, elbo_error) = means
    assert ((stl - elbo).abs() < 6 * (stl_error.square() + elbo_error.square()).sqrt()).all()


def test_alpha_must_be_finite():
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        DReG(alpha=math.inf)
