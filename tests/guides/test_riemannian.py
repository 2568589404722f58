"""The Riemannian guide: its metric and its leapfrog against autograd and dense algebra, its weights exact."""

from __future__ import annotations

import pyro
import pytest
import torch
from torch.autograd.functional import jacobian

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate, guides, models, nets
from ppl_vae.transforms.leapfrog import curved_leapfrog
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")

LATENT, DATA = 2, 4


def curved(latent_dim=LATENT):
    metric = nets.RiemannianMetric(latent_dim, num_centres=3, temperature=1.2, regularisation=0.3)
    with torch.no_grad():
        metric.triangles.add_(0.5 * torch.randn_like(metric.triangles))
    return metric


def build(metric=None, **options):
    model = models.LinearGaussian(LATENT, DATA, noise=0.8)
    first = guides.MeanField(nets.MLPEncoder((DATA,), LATENT, ()))
    with torch.no_grad():
        first.encoder.head.linear.weight.mul_(0.2)  # a scale of about one
    return pv.Pair(model, guides.RiemannianHamiltonian(first, model, metric or curved(), **options))


def test_the_metric_is_the_sum_of_its_bumps_and_its_slopes_are_autograds():
    metric, z, momentum = curved(3), torch.randn(3), torch.randn(3)
    lower = metric.triangles.tril()
    dense = sum(
        torch.exp(-(z - centre).square().sum() / 1.2**2) * each @ each.T
        for centre, each in zip(metric.centres, lower)
    )
    inverse = dense + 0.3 * torch.eye(3)
    torch.testing.assert_close(metric.inverse(z), inverse)
    root = metric.root(z)
    torch.testing.assert_close(root @ root.T, inverse)
    torch.testing.assert_close(root.diagonal().log().sum(), -0.5 * torch.logdet(torch.linalg.inv(inverse)))
    found = jacobian(lambda at: 0.5 * torch.logdet(torch.linalg.inv(metric.inverse(at))), z)
    torch.testing.assert_close(metric.half_log_det_slope(z), found)
    kinetic = jacobian(lambda at: 0.5 * momentum @ metric.inverse(at) @ momentum, z)
    torch.testing.assert_close(metric.kinetic_slope(z, momentum), kinetic)
    bend = jacobian(lambda at: metric.kinetic_slope(z, at), momentum)
    torch.testing.assert_close(metric.bend(z, momentum), bend)


def leap(metric, both, step, iterations):
    """One step in a bent potential: (z, momentum) side by side to the same, and its determinant."""

    def force_at(z):
        return -z - 0.3 * z**3

    z, momentum = both.chunk(2)
    *ends, log_det, _ = curved_leapfrog(metric, z, momentum, force_at(z), force_at, step, iterations)
    return torch.cat(ends), log_det


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_the_determinant_is_that_of_what_was_done_however_few_the_iterations(iterations):
    metric, both, step = curved(3), torch.randn(6), torch.tensor([0.2, 0.1, 0.3])
    matrix = jacobian(lambda at: leap(metric, at, step, iterations)[0], both)
    torch.testing.assert_close(leap(metric, both, step, iterations)[1], torch.logdet(matrix))
    assert torch.logdet(matrix).abs().item() > 1e-9


def test_solved_for_it_keeps_the_volume_and_can_be_undone():
    metric, both, step = curved(3), torch.randn(6), torch.tensor([0.1, 0.05, 0.2])
    end, log_det = leap(metric, both, step, 60)
    assert log_det.abs().item() < 1e-12
    back, _ = leap(metric, end, -step, 60)
    torch.testing.assert_close(back, both, rtol=0, atol=1e-12)


def test_the_energy_is_kept_with_the_second_power_of_the_step():
    metric, both = curved(), torch.randn(4)

    def energy(both):
        z, momentum = both.chunk(2)
        inverse = metric.inverse(z)
        return 0.5 * (z @ z + 0.15 * (z**4).sum() - torch.logdet(inverse) + momentum @ inverse @ momentum)

    lost = []
    for number in (20, 40):
        now = both
        for _ in range(number):
            now = leap(metric, now, torch.tensor(1.0 / number), 10)[0].detach()
        lost.append((energy(now) - energy(both)).abs().item())
    assert lost[0] / lost[1] == pytest.approx(4, rel=0.2)


def test_of_a_flat_metric_it_is_the_flat_guide():
    metric = nets.RiemannianMetric(LATENT, num_centres=1, regularisation=1.0)
    metric.triangles.data.zero_()
    pair, x = build(metric, step_size=0.3, temperature=0.4), torch.randn(3, DATA)
    flat = guides.Hamiltonian(pair.guide.guide, pair.model, step_size=0.3, temperature=0.4)
    weights = []
    for guide in (pair.guide, flat):
        torch.manual_seed(2)
        weights.append(estimators.IWAE(5).draw(pair.model, guide, x).log_weight)
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("iterations", [1, 6])
def test_the_evidence_is_the_models_and_the_bound_below(iterations):
    pair, x = build(step_size=0.1, num_iterations=iterations), torch.randn(4, DATA)
    exact = pair.model.log_evidence(x)
    found = evaluate.log_likelihood(pair, x, 4000, progress=False, capture=False)
    error = found.per_datum_monte_carlo_standard_error
    assert ((found.per_datum - exact).abs() < SIGMAS * error).all()
    assert (evaluate.bounds(pair, x, 200).per_datum < exact).all()


def test_what_is_too_long_has_the_weight_zero_and_a_share_of_that_is_refused():
    pair, x = build(step_size=0.2), torch.randn(4, DATA)
    with pyro.validation_enabled(False), torch.no_grad():
        weight = estimators.IWAE(4_000).draw(pair.model, pair.guide, x).log_weight
    assert 0 < weight.isinf().double().mean() < 0.5
    share = (weight - pair.model.log_evidence(x)).exp()  # of the evidence: at most one in the mean
    assert (share.mean(0) < 1 + SIGMAS * share.std(0) / 4_000**0.5).all()
    assert (share.mean(0) > 0.5).all()
    with pytest.raises(PairError, match="too long for their metric"):
        build(step_size=20.0, temperature=1.0).guide(x)


def test_it_trains_and_its_metric_is_saved(tmp_path):
    pair, x = build(), torch.randn(40, DATA)
    pair.guide.metric.initialise(pv.encode(pair, x, seed=0).latents["z"], seed=1)
    before, quiet = pair.guide.metric.centres.clone(), {"progress": False, "capture": False}
    pv.fit(pair, estimators.IWAE(2), x, epochs=1, run_dir=tmp_path, check=False, **quiet)
    assert not torch.equal(pair.guide.metric.centres, before)
    loaded = pv.load(tmp_path)
    assert torch.equal(loaded.guide.metric.centres, pair.guide.metric.centres)
    assert loaded.guide.model is loaded.model
    with pytest.raises(ValueError, match=r"3 centres of latent_dim=2 take as many codes or more"):
        pair.guide.metric.initialise(torch.zeros(2, 2))
