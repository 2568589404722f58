"""Deep ladders: a linear one whose evidence is known, the convolutional paths, what stands at the start."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.nets.ladder_paths import stages
from ppl_vae.testing import check_pair

LAYERS, STATE, OUT, NOISE = 10, 4, 5, 0.6


class LinearPath(nn.Module):
    """z_l ~ N(A h, s^2) of one dimension, h -> M (h + B z), x ~ N(C h, noise^2)."""

    event_dim, num_layers = 1, LAYERS

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(STATE))
        self.to_z = nn.Parameter(0.5 * torch.randn(LAYERS, 1, STATE))
        self.from_z = nn.Parameter(torch.randn(LAYERS, STATE, 1))
        self.move = nn.Parameter(torch.eye(STATE) + 0.2 * torch.randn(LAYERS, STATE, STATE))
        self.scale = nn.Parameter(torch.rand(LAYERS, 1) + 0.5)
        self.out = nn.Parameter(torch.randn(OUT, STATE))

    def start(self):
        return self.first

    def prior(self, layer, state):
        loc = state @ self.to_z[layer].T
        return loc, self.scale[layer].expand_as(loc), state

    def after(self, layer, state, z):
        return (state + z @ self.from_z[layer].T) @ self.move[layer].T

    def output(self, state):
        return state @ self.out.T

    def log_evidence(self, x):
        """log p(x): mean and covariance of the state, layer by layer."""
        mean, covariance = self.first, torch.zeros(STATE, STATE)
        for layer in range(LAYERS):
            step = self.move[layer] @ (torch.eye(STATE) + self.from_z[layer] @ self.to_z[layer])
            added = self.move[layer] @ self.from_z[layer] * self.scale[layer]
            mean, covariance = step @ mean, step @ covariance @ step.T + added @ added.T
        noise = NOISE**2 * torch.eye(OUT)
        return MultivariateNormal(self.out @ mean, self.out @ covariance @ self.out.T + noise).log_prob(x)


class Exact(nn.Module):
    """The exact posterior of each layer of a `LinearPath`, by what lies below it."""

    def __init__(self, path):
        super().__init__()
        below, covariance = path.out, NOISE**2 * torch.eye(OUT)
        self.below = []
        for layer in reversed(range(LAYERS)):
            through = below @ path.move[layer]
            self.below.insert(0, (through.detach(), torch.linalg.inv(covariance).detach()))
            added = through @ path.from_z[layer] * path.scale[layer]
            covariance = covariance + added @ added.T
            below = through @ (torch.eye(STATE) + path.from_z[layer] @ path.to_z[layer])
        self.path = path

    def forward(self, x):
        return (x,)

    def posterior(self, layer, state, evidence, loc, scale):
        through, precision = self.below[layer]
        gain = (through @ self.path.from_z[layer]).T @ precision
        total = self.path.scale[layer] ** -2 + (gain @ through @ self.path.from_z[layer])[0]
        left = (evidence[0] - state @ through.T) @ gain.T
        return (loc * scale**-2 + left) / total, total.sqrt().reciprocal().expand_as(loc)


@pytest.fixture
def linear(double):
    torch.manual_seed(0)
    path = LinearPath()
    model = models.DeepLadder(likelihoods.Gaussian(NOISE, event_dim=1), path)
    return pv.Pair(model, guides.DeepTopDown(Exact(path), path)), path, 2 * torch.randn(6, OUT)


@pytest.mark.parametrize("num_particles", [1, 3])
def test_at_the_exact_posterior_every_weight_is_the_evidence(linear, num_particles):
    pair, path, x = linear
    log_weight = estimators.ELBO(num_particles).draw(pair.model, pair.guide, x).log_weight
    torch.testing.assert_close(log_weight, path.log_evidence(x).expand(num_particles, -1))


def test_the_terms_of_ten_layers_are_the_bound(linear):
    pair, path, x = linear
    found = evaluate.bounds(pair, x, num_particles=2000)
    assert list(found.kl) == [f"z{layer}" for layer in range(10, 0, -1)]
    exact = float(path.log_evidence(x).detach().mean())
    assert found.reconstruction - sum(found.kl.values()) == pytest.approx(exact, abs=0.1)
    assert min(found.kl.values()) > 0


SIZES = {"layers": (2, 3, 5), "latent_channels": (4, 2, 1), "channels": 6}
SHAPE = (1, 16, 16)


def convolutional(**changed):
    torch.manual_seed(0)
    sizes = {**SIZES, **changed}
    path = nets.ConvTopDown(SHAPE, **sizes)
    model = models.DeepLadder(likelihoods.Bernoulli(), path)
    return pv.Pair(model, guides.DeepTopDown(nets.ConvBottomUp(SHAPE, **sizes), path))


@pytest.fixture
def x():
    return (torch.rand(5, *SHAPE) > 0.5).to(torch.get_default_dtype())


@pytest.mark.parametrize("activation", ["silu", pytest.param("gated", marks=pytest.mark.grid)])
def test_ten_convolutional_layers_keep_the_contract(x, activation):
    pair = convolutional(activation=activation)
    report = check_pair(pair, x, estimator=estimators.IWAE(2))
    shapes = list(report.latent_sites.values())
    assert shapes == [(4, 1, 1)] * 2 + [(2, 4, 4)] * 3 + [(1, 8, 8)] * 5
    half = pv.interpolate(pair, x[:2], x[2:4], steps=3, site="z10", seed=0)
    assert half.mean.shape == (3, 2, *SHAPE)


def test_at_the_start_the_guide_is_the_prior_and_nothing_explodes(double, x):
    pair = convolutional()
    particles = estimators.MeanFieldELBO().draw(pair.model, pair.guide, x)
    for site in particles.latent_sites:
        torch.testing.assert_close(particles.kl(site), torch.zeros(1, 5))
    state = pair.model.path.output_bias
    assert state.shape == (1,)
    logits = particles.model_trace.nodes["x"]["fn"].base_dist.logits
    assert float(logits.detach().abs().max()) < 20


def test_model_and_guide_share_the_path_in_a_run_folder_too(x, tmp_path):
    pair = convolutional()
    split = data.Split.from_tensor(x)
    run = pv.fit(pair, estimators.MeanFieldELBO(), split, epochs=3, progress=False, run_dir=tmp_path / "run")
    again = pv.load(tmp_path / "run")
    assert again.model.path is again.guide.path
    total = sum(run.history[f"train_kl_z{layer}"] for layer in range(1, 11))
    torch.testing.assert_close(
        torch.tensor((run.history["train_reconstruction"] - total).to_numpy()),
        torch.tensor(run.history["train_elbo"].to_numpy()),
        rtol=1e-4, atol=1e-3,
    )  # fmt: skip


def test_sizes_that_do_not_fit_are_refused():
    assert stages((1, 28, 28), (1, 2, 3)) == ((1, 7, 14), (0, 1, 1, 2, 2, 2))
    with pytest.raises(ValueError, match=r"stages of the sides \(1, 4, 8\), from the top.*got \(2, 3\)"):
        nets.ConvTopDown(SHAPE, layers=(2, 3))
    for kind in (nets.ConvTopDown, nets.ConvBottomUp):
        with pytest.raises(ValueError, match="latent_channels must have a number for each stage"):
            kind(SHAPE, layers=(1, 1, 1), latent_channels=(2, 2))
