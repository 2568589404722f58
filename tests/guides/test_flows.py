"""Flow guides: they start at mean field, and their densities are densities, those of their draws."""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.autograd.functional import jacobian

from ppl_vae import Pair, PairError, estimators, guides, models, nets
from ppl_vae.core import separate
from ppl_vae.transforms import Conditioned, Sylvester, householder, orthonormal

FLOWS = {
    "planar": guides.Planar,
    "sylvester": guides.Sylvester,
    "householder": guides.HouseholderSylvester,
    "iaf": guides.IAF,
    "spline": guides.Spline,
}
every_flow = pytest.mark.parametrize("make", FLOWS.values(), ids=FLOWS)


def build(make, latent_dim=2, perturb=0.3, num_transforms=2):
    guide = make(nets.MLPEncoder((4,), latent_dim, (6,)), num_transforms=num_transforms)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            if not name.startswith("encoder"):
                width = parameter.shape[-1] if parameter.dim() > 1 else 1
                parameter.add_(perturb * torch.randn_like(parameter) / width**0.5)
    return guide


@every_flow
@pytest.mark.usefixtures("double")
def test_it_starts_at_the_mean_field_guide(make):
    guide, x = build(make, 3, perturb=0.0), torch.randn(5, 4)
    posterior = guide.posterior(x)
    z = posterior.rsample((7,))
    loc, scale = guide.encoder(x)
    torch.testing.assert_close(posterior.log_prob(z), dist.Normal(loc, scale).to_event(1).log_prob(z))


@every_flow
@pytest.mark.usefixtures("double")
def test_in_two_dimensions_the_density_integrates_to_one(make):
    posterior = build(make).posterior(torch.randn(1, 4))
    draws = posterior.sample((2000,))[:, 0]
    centre, reach = draws.mean(0), 1.5 * (draws - draws.mean(0)).abs().amax(0)
    steps = torch.linspace(-1, 1, 101)
    grid = centre + torch.cartesian_prod(steps, steps) * reach
    density = posterior.log_prob(grid.unsqueeze(1)).exp().detach()[:, 0]
    cell = reach.prod() * (steps[1] - steps[0]) ** 2
    # a spline's density has corners, where the sum over a grid is of first order only
    assert (density.sum() * cell).item() == pytest.approx(1, abs=1e-2 if make is guides.Spline else 1e-3)
    # and it is the density of the draws: their share of a region is its integral there
    inside = (draws < centre).all(-1).double()
    mass = density[(grid <= centre).all(-1)].sum() * cell
    assert abs(inside.mean() - mass) < 4.5 * inside.std() / 2000**0.5 + 1e-2


@every_flow
@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.usefixtures("double")
def test_a_draws_density_is_the_jacobians_and_the_inverses(make, latent_dim):
    posterior = build(make, latent_dim).posterior(torch.randn(4, 4)).expand((2, 4))
    z = posterior.rsample()
    remembered = posterior.log_prob(z)
    torch.testing.assert_close(posterior.log_prob(z.clone()), remembered, rtol=1e-8, atol=1e-8)
    noise = posterior.base_dist.rsample()

    def push(noise):
        for transform in posterior.transforms:
            noise = transform(noise)
        return noise

    z, matrices = push(noise), jacobian(push, noise)
    for k, b in ((0, 0), (1, 3)):
        log_det = matrices[k, b, :, k, b].slogdet().logabsdet
        expected = posterior.base_dist.log_prob(noise)[k, b] - log_det
        torch.testing.assert_close(posterior.log_prob(z.clone())[k, b], expected)


@every_flow
@pytest.mark.usefixtures("double")
def test_the_inverse_has_the_right_gradients(make):
    guide, x = build(make), torch.randn(3, 4)
    z = guide.posterior(x).sample()
    weights = [p for name, p in guide.named_parameters() if not name.startswith("encoder.trunk")]
    given = guide.posterior(x).log_prob(z).sum()
    gradients = torch.autograd.grad(given, weights, allow_unused=True)
    for parameter, gradient in list(zip(weights, gradients, strict=True))[:4]:
        with torch.no_grad():
            index = int(gradient.abs().argmax())
            values = []
            for step in (1e-5, -2e-5):
                parameter.view(-1)[index] += step
                values.append(guide.posterior(x).log_prob(z).sum())
            parameter.view(-1)[index] += 1e-5
        assert gradient.flatten()[index].item() == pytest.approx(
            ((values[0] - values[1]) / 2e-5).item(), rel=1e-4
        )


@every_flow
def test_a_draw_needs_no_inverse(make, monkeypatch):
    def fail(self, y):
        raise AssertionError("inverse")

    monkeypatch.setattr(Conditioned, "_inverse", fail)
    pair = Pair(models.LinearGaussian(2, 4), build(make))
    x = torch.randn(5, 4)
    for estimator in (estimators.ELBO(), estimators.IWAE(3)):
        estimator.differentiable_loss(pair.model, pair.guide, x).backward()
    svi = pyro.infer.SVI(*pair.pyro(), pyro.optim.SGD({"lr": 1e-3}), pyro.infer.Trace_ELBO())
    assert torch.tensor(svi.step(x)).isfinite()


@every_flow
@pytest.mark.usefixtures("double")
def test_the_three_gradients_sum_to_the_whole(make):
    pair, x = Pair(models.LinearGaussian(2, 4), build(make)), torch.randn(5, 4)
    other = copy.deepcopy(pair)
    pyro.set_rng_seed(0)
    estimators.ELBO(3).differentiable_loss(pair.model, pair.guide, x).backward()
    pyro.set_rng_seed(0)
    parts = separate.draw(other.model, other.guide, (x,), num_particles=3)
    (-(parts.model_term + parts.path_term - parts.score_term).mean(0).sum()).backward()
    for got, wanted in zip(other.parameters(), pair.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-6, atol=1e-6)


def test_a_flow_without_an_inverse_is_refused_by_name():
    class OneWay(Sylvester):
        def _inverse(self, y):
            raise NotImplementedError

    class Guide(guides.Sylvester):
        def _make(self, parameters):
            made = super()._make(parameters)
            return OneWay(made.basis, made.outer, made.inner, made.bias)

    pair = Pair(models.LinearGaussian(2, 4), build(Guide))
    with pytest.raises(PairError, match=r"'z'.*no inverse.*estimators.ELBO or estimators.IWAE"):
        estimators.STL().differentiable_loss(pair.model, pair.guide, torch.randn(5, 4))


@pytest.mark.usefixtures("double")
def test_bases_are_orthonormal_and_continuous():
    matrix = torch.randn(7, 5, 3)
    identity = torch.eye(3).expand(7, 3, 3)
    basis = orthonormal(matrix)
    torch.testing.assert_close(basis.mT @ basis, identity)
    # the pivot changes its sign here, and LAPACK's own Q would turn over
    matrix[..., 0, 0] = 1e-9
    flipped = matrix.clone()
    flipped[..., 0, 0] = -1e-9
    torch.testing.assert_close(orthonormal(matrix), orthonormal(flipped), atol=1e-7, rtol=0)
    turned = householder(torch.randn(7, 2, 5))
    torch.testing.assert_close(turned @ turned.mT, torch.eye(5).expand(7, 5, 5))


def test_bad_sizes_are_named():
    encoder = nets.MLPEncoder((4,), 2, (6,))
    with pytest.raises(ValueError, match="num_columns must be from 1 to latent_dim = 2, got 3"):
        guides.Sylvester(encoder, num_columns=3)
    with pytest.raises(ValueError, match="num_reflections must be at least 1, got 0"):
        guides.HouseholderSylvester(encoder, num_reflections=0)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        guides.LowRank(encoder, rank=0)


def test_importing_zuko_leaves_validation_on():
    build(guides.IAF)
    assert torch.distributions.Distribution._validate_args
