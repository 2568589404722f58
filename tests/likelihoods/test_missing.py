"""The linear-Gaussian pair with gaps, whose evidence is a normal density of the seen cells."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.nets.scale import inverse_positive_scale
from ppl_vae.testing import check_pair

LATENT, DATA, NUMBER = 2, 5, 40


class ExactGuide(nn.Module):
    """The posterior of a linear-Gaussian model given the seen cells of each row."""

    takes_missing = True

    def __init__(self, weight: Tensor, bias: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = weight, bias, scale

    def forward(self, x: Tensor) -> Tensor:
        precision = torch.where(x.isnan(), 0.0, self.scale.square().reciprocal())
        inner = torch.einsum("nd,dk,dl->nkl", precision, self.weight, self.weight)
        inner = inner + torch.eye(LATENT, dtype=x.dtype)
        pull = (precision * (x - self.bias).nan_to_num()) @ self.weight
        loc = torch.linalg.solve(inner, pull.unsqueeze(-1)).squeeze(-1)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=inner))


def linear_gaussian() -> tuple[models.VAE, Tensor, Tensor, Tensor]:
    """p(x) = N(b, W W' + diag(s^2)), in two parts whose columns are interleaved."""
    torch.manual_seed(1)
    scale = torch.tensor([0.5, 0.8, 1.3, 0.3, 0.9], dtype=torch.float64)
    parts = tuple(likelihoods.Gaussian(event_dim=1, num_columns=size) for size in (3, 2))
    columns = ((4, 0, 2), (3, 1))
    likelihood = likelihoods.Mixed(parts, columns).double()
    decoder = nets.MLPDecoder(LATENT, likelihood.raw_shape((DATA,)), hidden=()).double()
    order = [column for group in columns for column in group]
    weight, bias = torch.randn(DATA, LATENT).double(), torch.randn(DATA).double()
    with torch.no_grad():
        decoder.mlp.layers[-1].weight.copy_(weight[order])
        decoder.output_bias.copy_(bias[order])
        for part, group in zip(likelihood.parts, columns):
            part.raw_scale.copy_(inverse_positive_scale(scale[list(group)], part.min_scale, part.max_scale))
    return models.VAE(likelihood, decoder, LATENT), weight, bias, scale


def gappy(share: float = 0.4) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.randn(NUMBER, DATA, generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < share] = math.nan
    x[0], x[1, 1:] = math.nan, math.nan
    return x


def evidence(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    """log N(x_o; b_o, (W W' + diag(s^2))_oo) of the seen cells o of each row."""
    covariance = weight @ weight.T + scale.square().diag()
    found = []
    for row in x:
        seen = ~row.isnan()
        inner = covariance[seen][:, seen]
        zero = torch.zeros((), dtype=x.dtype)
        found.append(dist.MultivariateNormal(bias[seen], inner).log_prob(row[seen]) if seen.any() else zero)
    return torch.stack(found)


def test_the_exact_guide_meets_the_marginal_of_the_seen_cells():
    model, *truth = linear_gaussian()
    pair, x = pv.Pair(model, ExactGuide(*truth)), gappy()
    exact = evidence(x, *truth)
    for estimator in (estimators.ELBO(), estimators.IWAE(3)):
        particles = estimator.draw(pair.model, pair.guide, x)
        torch.testing.assert_close(estimator.bound(particles), exact, rtol=0, atol=1e-5)
    estimate = evaluate.log_likelihood(pair, x, num_particles=5, progress=False)
    assert abs(estimate.value - float(exact.mean())) < 1e-5


def test_elsewhere_the_bounds_stay_below():
    model, *truth = linear_gaussian()
    encoder = nets.ColumnEncoder((1,) * DATA, LATENT, hidden=(8,)).double()
    pair, x = pv.Pair(model, guides.MeanField(encoder)), gappy()
    check_pair(pair, x[:8])
    exact, draws = evidence(x, *truth), 4000
    means = []
    for estimator in (estimators.ELBO(), estimators.IWAE(10)):
        with torch.no_grad():
            runs = torch.stack(
                [estimator.bound(estimator.draw(model, pair.guide, x)) for _ in range(draws // 10)]
            )
        error = runs.std(0) / math.sqrt(len(runs))
        assert (runs.mean(0) < exact + 4.5 * error).all()
        means.append(runs.mean())
    assert means[0] < means[1] < exact.mean()


def test_training_on_gaps_finds_the_evidence():
    """Training a mean-field pair on rows with gaps raises the bound towards what the exact pair has."""
    model, *truth = linear_gaussian()
    covariance = truth[0] @ truth[0].T + truth[2].square().diag()
    torch.manual_seed(3)
    x = dist.MultivariateNormal(truth[1], covariance).sample((400,))
    x[torch.rand(x.shape) < 0.3] = math.nan
    encoder = nets.ColumnEncoder((1,) * DATA, LATENT, hidden=(32,)).double()
    pair = pv.Pair(model.requires_grad_(False), guides.MeanField(encoder))
    best = evidence(x, *truth).mean()
    before = float(evaluate.bounds(pair, x, progress=False).elbo)
    pv.fit(pair, estimators.ELBO(), data.Split.from_tensor(x, missing=True), epochs=60, learning_rate=1e-2)
    after = float(evaluate.bounds(pair, x, progress=False).elbo)
    assert before < after < best
    assert best - after < 0.35  # what a diagonal posterior cannot reach, and a short training leaves
