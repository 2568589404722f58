"""The Hamiltonian guide, against the law of its ends on a linear-Gaussian model, which is known exactly."""

from __future__ import annotations

import itertools

import pyro.distributions as dist
import pytest
import torch

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate, guides, kl, likelihoods, models, nets, priors
from ppl_vae.kl import KLPlan
from ppl_vae.train.objective import Objective
from tests.conftest import SIGMAS
from tests.oracle import make_pair

pytestmark = pytest.mark.usefixtures("double")

LATENT, DATA = 2, 4


def build(**options):
    model = models.LinearGaussian(LATENT, DATA, noise=0.8)
    first = guides.MeanField(nets.MLPEncoder((DATA,), LATENT, ()))
    guide = guides.Hamiltonian(first, model, **options)
    with torch.no_grad():
        guide.raw_step.add_(0.3 * torch.randn(LATENT))  # another step for each dimension
    return pv.Pair(model, guide)


def ends(pair, x):
    """The map of (z, gamma) to the guide's end, matrix and offset, and where it starts."""
    guide, posterior = pair.guide, pair.model.posterior(x)
    precision, mean = posterior.precision_matrix[0], posterior.mean
    step = nets.scale.positive_scale(guide.raw_step)
    root = (guide.raw_temperature.sigmoid() if guide.temperature < 1 else torch.ones(())).sqrt()
    identity, zero = torch.eye(LATENT), torch.zeros(LATENT, LATENT)

    def blocks(*rows):
        return torch.cat([torch.cat(row, 1) for row in rows])

    kick = blocks((identity, zero), (-(step / 2).diag() @ precision, identity))
    push = torch.cat([torch.zeros_like(mean), step / 2 * (mean @ precision)], -1)
    drift = blocks((identity, step.diag()), (zero, identity))
    matrix, offset = torch.block_diag(identity, identity / root), torch.zeros(len(x), 2 * LATENT)
    steps = guide.num_steps
    roots = [1 / ((1 - 1 / root) * (k / steps) ** 2 + 1 / root) for k in range(steps + 1)]
    for before, after in itertools.pairwise(roots):
        cool = torch.block_diag(identity, identity * before / after)
        for part, shift in ((kick, push), (drift, 0.0), (kick, push), (cool, 0.0)):
            matrix, offset = part @ matrix, offset @ part.T + shift
    loc, scale = guide.guide.encoder(x)
    start = dist.Normal(torch.cat([loc, 0 * loc], -1), torch.cat([scale, 0 * scale + 1], -1))
    return matrix, offset, start


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_weights_are_those_of_the_law_of_its_ends(temperature):
    pair, x = build(num_steps=4, step_size=0.4, temperature=temperature), torch.randn(3, DATA)
    particles = estimators.IWAE(6).draw(pair.model, pair.guide, x)
    matrix, offset, start = ends(pair, x)
    nodes = particles.guide_trace.nodes
    first = torch.cat([nodes["z_start"]["value"], nodes["z_momentum"]["value"]], -1)
    last = first @ matrix.T + offset
    torch.testing.assert_close(nodes["z"]["value"], last[..., :LATENT])
    law = dist.MultivariateNormal(
        start.mean @ matrix.T + offset, matrix @ start.variance.diag_embed() @ matrix.T
    )
    momentum = dist.Normal(0.0, 1.0).log_prob(last[..., LATENT:]).sum(-1)
    exact = pair.model.log_evidence(x) + pair.model.posterior(x).log_prob(last[..., :LATENT]) + momentum
    torch.testing.assert_close(particles.log_weight, exact - law.log_prob(last))


def test_the_bounds_gradients_are_those_of_the_exact_weights():
    """To the model, the start, the steps and the temperature."""
    pair, x = build(num_steps=3, step_size=0.4), torch.randn(3, DATA)
    particles = estimators.ELBO(2).draw(pair.model, pair.guide, x)
    parameters = list(pair.parameters())
    ours = torch.autograd.grad(particles.log_weight.sum(), parameters, retain_graph=True)
    matrix, offset, start = ends(pair, x)
    nodes = particles.guide_trace.nodes
    first = torch.cat([nodes["z_start"]["value"], nodes["z_momentum"]["value"]], -1)
    last = first @ matrix.T + offset
    law = dist.MultivariateNormal(
        start.mean @ matrix.T + offset, matrix @ start.variance.diag_embed() @ matrix.T
    )
    exact = pair.model.log_evidence(x) + pair.model.posterior(x).log_prob(last[..., :LATENT])
    exact = exact + dist.Normal(0.0, 1.0).log_prob(last[..., LATENT:]).sum(-1) - law.log_prob(last)
    for got, wanted in zip(ours, torch.autograd.grad(exact.sum(), parameters), strict=True):
        torch.testing.assert_close(got, wanted)


def test_from_the_exact_posterior_small_steps_lose_nothing():
    """With the second power of the step, as a leapfrog does."""
    oracle, x = make_pair(), torch.randn(6, 5)
    spread = []
    for step in (0.02, 0.01):
        guide = guides.Hamiltonian(oracle.guide, oracle.model, round(0.2 / step), step, temperature=1.0)
        torch.manual_seed(3)
        weight = estimators.IWAE(20).draw(oracle.model, guide, x).log_weight
        spread.append((weight - oracle.model.log_evidence(x)).abs().max().detach())
    assert spread[0] < 1e-2
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.1)


def test_the_evidence_is_the_models():
    pair, x = build(num_steps=2, step_size=0.4), torch.randn(5, DATA)
    pair.guide.guide.encoder.head.linear.weight.data.mul_(0.2)  # a scale of about one
    found = evaluate.log_likelihood(pair, x, 4000, progress=False, capture=False)
    error = found.per_datum_monte_carlo_standard_error
    assert ((found.per_datum - pair.model.log_evidence(x)).abs() < SIGMAS * error).all()


def test_without_steps_it_is_its_start():
    pair, x = build(num_steps=0), torch.randn(5, DATA)
    particles = estimators.ELBO(4).draw(pair.model, pair.guide, x)
    z = particles.guide_trace.nodes["z"]["value"]
    loc, scale = pair.guide.guide.encoder(x)
    alone = pair.model.log_evidence(x) + pair.model.posterior(x).log_prob(z)
    torch.testing.assert_close(particles.log_weight, alone - dist.Normal(loc, scale).log_prob(z).sum(-1))
    pv.fit(pair, estimators.ELBO(), x, epochs=1, progress=False)  # with no step to learn


def test_a_weight_of_the_kl_is_that_of_all_its_terms():
    pair, x = build(), torch.randn(5, DATA)
    objective = Objective(pair, estimators.ELBO())
    plan = KLPlan(0.25, ("z",), 1, 1, ("z_start", "z_momentum"))
    objective.kl_weight = {site: torch.tensor(weight) for site, weight in plan.at(0).items()}
    loss, terms = objective(x)
    whole = terms["elbo"] - terms["reconstruction"]
    torch.testing.assert_close(-loss * len(x), terms["reconstruction"] + 0.25 * whole)


REFUSED = {
    "by site": (ValueError, "only all terms together are a KL", {"z": 0.5}),
    "free bits": (PairError, "so its KL has no term of its own", kl.FreeBits(0.1, per="site")),
    "capacity": (PairError, "so its KL has no term of its own", kl.Capacity(1.0, epochs=1)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_a_kl_of_its_own_is_refused(case):
    kind, message, treatment = REFUSED[case]
    with pytest.raises(kind, match=message):
        pv.fit(
            build(),
            estimators.ELBO(),
            torch.randn(20, DATA),
            epochs=1,
            kl=treatment,
            progress=False,
            check=False,
        )


def test_what_needs_its_density_elsewhere_is_refused():
    pair, x = build(), torch.randn(4, DATA)
    for ask in (
        lambda: evaluate.inference_gap(pair, x, progress=False),
        lambda: guides.SemiAmortised(pair.guide, pair.model)(x),
    ):
        with pytest.raises(PairError, match=r"auxiliary sites \['z_start', 'z_momentum'\]"):
            ask()
    x[0, 0] = torch.nan
    with pytest.raises(PairError, match="does not tell the density of latents from elsewhere"):
        pv.impute(pair, x, method="metropolis-within-gibbs", progress=False)


def test_what_cannot_be_is_refused():
    first, model = guides.MeanField(nets.MLPEncoder((4,), 2)), models.LinearGaussian(2, 4)
    for options in ({"num_steps": -1}, {"step_size": 0.0}, {"temperature": 1.5}):
        with pytest.raises(ValueError, match=r"temperature in \(0, 1\]"):
            guides.Hamiltonian(first, model, **options)


@pytest.mark.parametrize("make", [guides.Hamiltonian, guides.SemiAmortised])
def test_over_clusters_that_are_summed_over_it_is_that_of_their_mixture(make):
    prior, decoder = priors.MixtureOfGaussians(LATENT, 3), nets.MLPDecoder(LATENT, (DATA,), ())
    likelihood, encoder = likelihoods.Gaussian(event_dim=1), nets.MLPEncoder((DATA,), LATENT, ())
    found, x = [], torch.randn(4, DATA)
    for model in (
        models.MixtureVAE(likelihood, decoder, prior),
        models.VAE(likelihood, decoder, LATENT, prior),
    ):
        pair = pv.Pair(model, make(guides.MeanField(encoder), model, step_size=0.3))
        found.append(evaluate.bounds(pair, x, 5, seed=1).per_datum)
    torch.testing.assert_close(*found)


def test_it_starts_from_a_mixture_of_experts_and_from_a_flow():
    views = [torch.randn(3, DATA), torch.randn(3, DATA)]
    views[1][0] = torch.nan
    likelihood = [likelihoods.Gaussian(event_dim=1) for _ in views]
    decoders = [nets.MLPDecoder(LATENT, (DATA,), ()) for _ in views]
    model = models.MultimodalVAE(("x", "y"), likelihood, decoders, LATENT)
    start = guides.MixtureOfExperts([nets.MLPEncoder((DATA,), LATENT, ()) for _ in views])
    still = pv.Pair(model, guides.Hamiltonian(start, model, num_steps=0))
    found = [evaluate.bounds(pair, tuple(views), 20_000).per_datum for pair in (still, pv.Pair(model, start))]
    torch.testing.assert_close(*found, rtol=0.02, atol=0)
    flow = guides.IAF(nets.MLPEncoder((DATA,), LATENT, ()), 1, hidden=(4,), context_dim=2)
    linear = models.LinearGaussian(LATENT, DATA)
    assert guides.Hamiltonian(flow, linear)(views[0]).isfinite().all()


def test_a_start_in_a_part_of_space_or_in_one_point_is_refused():
    encoder = nets.MLPEncoder((DATA,), LATENT, ())
    for prior, start, message in (
        (priors.Sphere(LATENT), guides.PowerSpherical, "draws values that are rows of length 1"),
        (priors.LogNormal(LATENT), guides.LogNormal, "draws values that are > 0"),
        (None, guides.Deterministic, "all of its mass is in one point"),
    ):
        likelihood, decoder = likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(LATENT, (DATA,), ())
        model = models.VAE(likelihood, decoder, LATENT, prior)
        with pytest.raises(PairError, match=message):
            guides.Hamiltonian(start(encoder), model)(torch.randn(3, DATA))
