"""Every bound against the exact evidence, posterior and gradients of the linear-Gaussian pair."""

from __future__ import annotations

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from ppl_vae import Pair, estimators, guides
from ppl_vae.core.drawing import draw
from tests.conftest import SIGMAS
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel, Subsampled

pytestmark = pytest.mark.usefixtures("double")

EVERY = [
    estimators.ELBO(4),
    estimators.MeanFieldELBO(4),
    estimators.IWAE(4),
    estimators.Renyi(0.5, 4),
    estimators.Renyi(-1.0, 4),
    estimators.Renyi(1.0 - 1e-5, 4),
    estimators.Renyi(1.0, 4),
]


@pytest.mark.parametrize("estimator", EVERY, ids=repr)
def test_exact_at_the_exact_posterior(estimator):
    pair, x = make_pair(), torch.randn(20, 5)
    particles = estimator.draw(pair.model, pair.guide, x)
    torch.testing.assert_close(estimator.bound(particles), pair.model.log_evidence(x), rtol=0, atol=1e-5)
    assert particles.log_weight.var(0).max() < 1e-12


def averages(pair, x, estimator, repeats):
    tiled = x.repeat(repeats, 1)
    with torch.no_grad():
        bound = estimator.bound(estimator.draw(pair.model, pair.guide, tiled)).view(repeats, len(x)).mean(1)
    return bound.mean().item(), (bound.std() / math.sqrt(repeats)).item()


def test_bounds_are_ordered_below_the_evidence():
    pair, x = make_pair(perturb=0.3), torch.randn(10, 5)
    ladder = [estimators.ELBO(), estimators.IWAE(5), estimators.IWAE(50)]
    (elbo, e1), (iwae5, e5), (iwae50, e50) = (averages(pair, x, estimator, 1000) for estimator in ladder)
    evidence = pair.model.log_evidence(x).mean().item()
    assert elbo + 3 * e1 < iwae5 - 3 * e5
    assert iwae5 + 3 * e5 < iwae50 - 3 * e50
    assert iwae50 < evidence + SIGMAS * e50


def mean_field_pair():
    pair = make_pair(perturb=0.3)
    return Pair(pair.model, guides.MeanField(pair.guide.encoder))


def closed_form_elbo(pair, x):
    """E_q[log p(x | z)] - KL in closed form: quadratic in the mean and covariance of q."""
    model, posterior = pair.model, poutine.trace(pair.guide).get_trace(x).nodes["z"]["fn"]
    if not isinstance(posterior, MultivariateNormal):
        posterior = MultivariateNormal(posterior.mean, posterior.variance.diag_embed())
    residual = x - posterior.mean @ model.weight.T - model.bias
    spread = torch.einsum("id,bde,ie->b", model.weight, posterior.covariance_matrix, model.weight)
    variance = (2 * model.log_scale).exp()
    reconstruction = -0.5 * (residual.square().sum(-1) + spread) / variance - x.shape[-1] * (
        model.log_scale + 0.5 * math.log(2 * math.pi)
    )
    return reconstruction - kl_divergence(posterior, MultivariateNormal(torch.zeros(3), torch.eye(3)))


@pytest.mark.parametrize("make", [lambda: make_pair(perturb=0.3), mean_field_pair], ids=["full", "diagonal"])
@pytest.mark.parametrize("estimator", [estimators.ELBO(), estimators.MeanFieldELBO()], ids=repr)
def test_values_and_gradients_agree_with_the_closed_form(estimator, make):
    pair, x, repeats, chunks = make(), torch.randn(4, 5), 500, 40
    parameters = list(pair.parameters())
    exact = closed_form_elbo(pair, x).mean()
    wanted = [exact.detach().view(1), *torch.autograd.grad(exact, parameters)]
    draws = []
    for _ in range(chunks):
        bound = -estimator.differentiable_loss(pair.model, pair.guide, x.repeat(repeats, 1)) / (
            repeats * len(x)
        )
        draws.append([bound.detach().view(1), *torch.autograd.grad(bound, parameters)])
    for index, target in enumerate(wanted):
        sampled = torch.stack([gradients[index] for gradients in draws])
        error = sampled.std(0) / math.sqrt(chunks) + 1e-12
        # chunks are few, so the standard error itself is uncertain: Student's t, 39 degrees of freedom
        assert ((sampled.mean(0) - target).abs() < 6 * error).all()


def test_a_closed_form_kl_lowers_the_variance():
    pair, x = mean_field_pair(), torch.randn(4, 5)
    particles = draw(pair.model, pair.guide, (x,), num_particles=2000)
    assert (particles.kl("z").var(0) < 1e-20).all()
    assert (particles.kl_sample("z").var(0) > 1).all()


def test_pathwise_and_score_function_gradients_of_a_quadratic():
    """d/d(mu, sigma^2) of E[|z - a|^2 / 2], z ~ N(mu, sigma^2), is (mu - a, 1/2),
    so sigma^2/2 is its spread.
    """
    loc, log_scale, target, draws = torch.tensor(1.3), torch.tensor(-0.4), 0.2, 200_000

    class Model(torch.nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(False))
                pyro.factor("quadratic", -0.5 * (z - target).square())

    class Guide(torch.nn.Module):
        def __init__(self, normal):
            super().__init__()
            self.loc, self.log_scale = torch.nn.Parameter(loc.clone()), torch.nn.Parameter(log_scale.clone())
            self.normal = normal

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                # masked, so that the bound is the expectation alone, without an entropy
                pyro.sample("z", self.normal(self.loc.expand(len(x)), self.log_scale.exp()))

    variances = {}
    for name, normal in (("pathwise", dist.Normal), ("score", NonreparameterizedNormal)):
        guide = Guide(normal)
        particles = estimators.ELBO().draw(Model(), guide, torch.zeros(draws))
        quadratic = -particles.reconstruction[0]
        surrogate = particles.score[0] * quadratic.detach() if particles.score is not None else quadratic
        at_once = torch.autograd.grad(surrogate.sum(), [guide.loc, guide.log_scale], retain_graph=True)
        z = particles.guide_trace.nodes["z"]["value"].detach()
        scale = log_scale.exp()
        noise = (z - loc) / scale
        if name == "pathwise":
            each = torch.stack([z - target, (z - target) * noise * scale])
        else:
            each = 0.5 * (z - target).square() * torch.stack([noise / scale, noise.square() - 1])
        torch.testing.assert_close(torch.stack(at_once), each.sum(1))
        exact = torch.stack([loc - target, scale.square()])
        error = each.std(1) / math.sqrt(draws)
        assert ((each.mean(1) - exact).abs() < SIGMAS * error).all()
        variances[name] = each.var(1)
    assert (variances["pathwise"] < variances["score"]).all()


@pytest.mark.parametrize("estimator", EVERY[:4], ids=repr)
def test_minibatches_are_unbiased_and_never_beat_the_evidence(estimator):
    size, batch = 12, 3
    pair, x = make_pair(perturb=0.2), torch.randn(size, 5)
    full = Subsampled(pair.model, size), Subsampled(pair.guide, size)
    repeats = 200  # a lost N/B is off by hundreds of standard errors
    with torch.no_grad():
        whole = torch.tensor([-estimator.loss(*full, x, torch.arange(size)) for _ in range(repeats // 4)])
        parts = []
        for _ in range(repeats):
            index = torch.randperm(size)[:batch]
            parts.append(-estimator.loss(*full, x[index], index))
        part = torch.tensor(parts)
    error = math.hypot(whole.std() / math.sqrt(len(whole)), part.std() / math.sqrt(len(part)))
    assert abs(whole.mean() - part.mean()) < SIGMAS * error
    assert part.mean() < pair.model.log_evidence(x).sum() + SIGMAS * part.std() / math.sqrt(len(part))


def enumerated_bound(pair, x):
    """E_q[log w] by summing over the four configurations: (B,), differentiable."""
    z, log_joint = pair.model.log_joint(x)
    log_q = pair.guide.posterior(x).log_prob(z[:, None, :])
    return (log_q.exp() * (log_joint - log_q)).sum(0)


def enumerated_iwae(pair, x):
    """E_q[log (w_1 + w_2) / 2] by summing over all pairs of configurations: (B,), differentiable."""
    z, log_joint = pair.model.log_joint(x)
    log_q = pair.guide.posterior(x).log_prob(z[:, None, :])
    log_w = log_joint - log_q
    both = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
    return ((log_q[:, None] + log_q[None]).exp() * both).sum((0, 1))


@pytest.mark.parametrize(
    ("estimator", "exact"),
    [
        (estimators.ELBO(), enumerated_bound),
        (estimators.MeanFieldELBO(), enumerated_bound),
        (estimators.IWAE(2), enumerated_iwae),
    ],
    ids=["ELBO", "MeanFieldELBO", "IWAE"],
)
def test_score_function_gradients_are_unbiased(estimator, exact):
    pair, x, repeats, chunks = (
        Pair(BernoulliModel(), BernoulliGuide()),
        torch.tensor([0.3, -1.2, 2.0]),
        2000,
        50,
    )
    parameters = list(pair.parameters())
    wanted = torch.autograd.grad(exact(pair, x).mean(), parameters)
    draws = []
    for _ in range(chunks):
        loss = estimator.differentiable_loss(pair.model, pair.guide, x.repeat(repeats)) / (repeats * len(x))
        draws.append(torch.cat([-g for g in torch.autograd.grad(loss, parameters)]))
    sampled = torch.stack(draws)
    error = sampled.std(0) / math.sqrt(chunks) + 1e-12
    assert ((sampled.mean(0) - torch.cat(wanted)).abs() < 6 * error).all()
    assert (torch.cat(wanted).abs() > 10 * error).any(), "the test would not notice a missing gradient"


def test_the_worked_example_of_the_kl_term():
    loc, scale = torch.tensor([2.0, 0.0]), torch.tensor([0.25, 4.0]).sqrt()
    posterior, prior = Normal(loc, scale), Normal(torch.zeros(2), 1.0)
    exact = kl_divergence(posterior, prior).sum().item()
    assert exact == pytest.approx(3.125, abs=1e-14)
    z = posterior.sample((100_000,))
    sampled = (posterior.log_prob(z) - prior.log_prob(z)).sum(-1)
    assert abs(sampled.mean() - exact) < SIGMAS * sampled.std() / math.sqrt(len(sampled))


def test_renyi_is_continuous_at_the_elbo():
    pair, x = make_pair(perturb=0.4), torch.randn(6, 5)
    particles = draw(pair.model, pair.guide, (x,), num_particles=8)
    elbo = estimators.ELBO(8).bound(particles)
    spread = particles.log_weight.max(0).values - particles.log_weight.min(0).values
    for gap in (1e-2, 1e-4, 1e-6, 1e-9):
        for alpha in (1 - gap, 1 + gap):
            difference = (estimators.Renyi(alpha, 8).bound(particles) - elbo).abs()
            # Hoeffding's lemma; the second term is rounding
            assert (difference <= gap * spread.square() / 8 + 1e-12 * spread).all(), (alpha, difference)


def test_renyi_falls_with_alpha():
    pair, x = make_pair(perturb=0.4), torch.randn(6, 5)
    particles = draw(pair.model, pair.guide, (x,), num_particles=8)
    ladder = [
        estimators.Renyi(alpha, 8).bound(particles) for alpha in (-5.0, -1.0, 0.0, 0.5, 0.9999, 1.0, 2.0)
    ]
    assert all((higher > lower).all() for higher, lower in itertools.pairwise(ladder))


@pytest.mark.parametrize("num_particles", [0, -1, 2.5, True, "10"])
def test_num_particles_must_be_a_positive_whole_number(num_particles):
    with pytest.raises(ValueError, match="num_particles must be a positive whole number"):
        estimators.IWAE(num_particles)


def test_alpha_must_be_a_number():
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        estimators.Renyi(float("nan"))
