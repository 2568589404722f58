"""Ascents in latent space against closed forms of the linear-Gaussian pair."""

from __future__ import annotations

import sys

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_vae as pv
from ppl_vae import evaluate
from tests.oracle import make_pair

pytestmark = pytest.mark.usefixtures("double")


def start(count=6):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(2))


def test_the_argmax_of_a_quadratic():
    """-c/2 |Wz + b - t|^2 - |z|^2 / 2 is largest at (I + c W'W)^-1 c W'(t - b), for every datum."""
    pair = make_pair().double()
    weight, bias = pair.model.weight.detach(), pair.model.bias.detach()
    target, sharpness = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0]), 0.3

    def score(x):
        return -0.5 * sharpness * (x - target).square().sum(-1)

    for prior_weight in (1.0, 4.0):
        precision = prior_weight * torch.eye(3) + sharpness * weight.T @ weight
        best = torch.linalg.solve(precision, sharpness * weight.T @ (target - bias))
        found = pv.optimise(
            pair, score, start(), steps=600, learning_rate=0.1, shell=False, prior_weight=prior_weight
        )
        torch.testing.assert_close(found.draws.latent, best.expand(6, 3), rtol=0, atol=1e-4)
        value = score(weight @ best + bias)
        torch.testing.assert_close(found.score, value.expand(6), rtol=0, atol=1e-4)
        log_prior = dist.Normal(torch.zeros(3), 1.0).log_prob(best).sum()
        torch.testing.assert_close(found.log_prior, log_prior.expand(6), rtol=0, atol=1e-4)
        assert bool((found.objective[-1] >= found.objective[0]).all())
    assert all(parameter.grad is None for parameter in pair.parameters())


def test_codes_stay_on_the_shell_of_the_data_and_are_best_there():
    """A linear score without a prior has no end; on the shell its best point solves a Lagrange condition."""
    pair, x = make_pair().double(), start(400)
    slope = torch.tensor([3.0, 0.0, -2.0, 1.0, 0.0])
    options = {"steps": 300, "learning_rate": 0.2, "prior_weight": 0.0, "like": x}
    kept = pv.optimise(pair, lambda mean: mean @ slope, x[:5], **options)
    far = pv.optimise(pair, lambda mean: mean @ slope, x[:5], shell=False, **options)
    assert not bool(kept.left.any())
    assert bool(far.left.all())
    assert "5 of the codes left" in str(far)
    assert bool((far.score > kept.score).all())
    low, high = kept.shell
    torch.testing.assert_close(kept.length, torch.full((5,), high))
    # the lengths are those of the aggregate posterior, here nearly normal in three dimensions
    codes = pair.model.posterior(x.repeat(5, 1)).sample()
    deviation, mean = codes.std(0), codes.mean(0)
    length = ((codes - mean) / deviation).square().sum(-1).sqrt()
    assert low == pytest.approx(float(length.quantile(0.01)), rel=0.15)
    assert high == pytest.approx(float(length.quantile(0.99)), rel=0.05)
    gradient = pair.model.weight.detach().T @ slope
    best = mean + high * deviation.square() * gradient / (deviation * gradient).norm()
    torch.testing.assert_close(kept.draws.latent, best.expand(5, 3), rtol=0, atol=0.1)


def test_holes_say_whether_codes_left_the_data():
    pair, x = make_pair().double(), start(400)
    holes = evaluate.holes(pair, x, num_draws=400)
    places = torch.zeros(4, 3)
    places[1, holes.dims[0]], places[2, holes.dims[1]], places[3, holes.dims[0]] = 50.0, -50.0, torch.nan
    assert holes.in_hole_at(places).tolist() == [False, True, True, True]
    # on the grid itself it is the picture's own colour
    at = torch.zeros(10_000, 3)
    at[:, list(holes.dims)] = torch.cartesian_prod(*holes.grid).to(at)
    assert torch.equal(holes.in_hole_at(at), (holes.log_aggregate < holes.threshold).flatten())
    with pytest.raises(ValueError, match="codes of site 'z' are"):
        holes.in_hole_at(torch.zeros(4))


def test_positive_latents_stay_positive_and_reach_the_argmax():
    """x = 2 z, z log-normal, score -(x - 6)^2 c: one stationary point of z, found by Newton in log z."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.LogNormal(torch.zeros(1), 0.5).to_event(1))
            pyro.sample("x", dist.Normal(2 * z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.LogNormal(0.1 * x, 0.3).to_event(1))

    x = torch.rand(4, 1)
    found = pv.optimise(
        pv.Pair(model, guide), lambda mean: -(mean[:, 0] - 6).square(), x, steps=500, shell=False
    )
    z = torch.linspace(1.0, 4.0, 300_001)
    total = -(2 * z - 6).square() + dist.LogNormal(0.0, 0.5).log_prob(z)
    torch.testing.assert_close(found.draws.latent, z[total.argmax()].expand(4, 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda x: x.sum(), r"score must give \(6,\) numbers.*gave shape \(\)"),
        (lambda x: 1.0, "gave float"),
        (
            lambda x: (-x.square().sum(-1)).log(),
            "is nan for datum 0 at step 0, and an ascent needs finite numbers",
        ),
        (lambda x: (0 * x.sum(-1)).sqrt(), "the gradient of score is no finite number at step 0"),
        (lambda x: x.detach().sum(-1), "does not depend on the codes in a way that has a gradient"),
    ],
)
def test_scores_that_are_none(score, said):
    with pytest.raises(ValueError, match=said):
        pv.optimise(make_pair().double(), score, start())


def test_options_that_are_none():
    pair = make_pair().double()
    with pytest.raises(ValueError, match="no latent site 'w'"):
        pv.optimise(pair, lambda x: x.sum(-1), start(), site="w")
    for option in ({"steps": 0}, {"learning_rate": 0.0}, {"prior_weight": -1.0}):
        with pytest.raises(ValueError, match=next(iter(option))):
            pv.optimise(pair, lambda x: x.sum(-1), start(), **option)


def test_a_search_reaches_the_argmax_of_a_score_without_a_gradient():
    """The quadratic of above, of which no gradient is given: within its last hundredths after 12 rounds."""
    pytest.importorskip("botorch", reason="the extra `bayesian`")
    pair = make_pair().double()
    weight, bias = pair.model.weight.detach(), pair.model.bias.detach()
    target = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0])
    best = torch.linalg.solve(torch.eye(3) + 0.3 * weight.T @ weight, 0.3 * weight.T @ (target - bias))

    def score(x):
        return -0.15 * (x - target).square().sum(-1).detach()

    found = pv.optimise(pair, score, start(), method="bayesian", steps=12)
    log_prior = dist.Normal(torch.zeros(3), 1.0).log_prob(best).sum()
    top = float(score(weight @ best + bias) + log_prior)
    assert bool((found.objective[-1] > top - 0.03).all())
    assert bool((found.objective[-1] <= top + 1e-9).all())
    assert bool((found.objective.diff(dim=0) >= 0).all())
    assert not bool(found.left.any())
    torch.testing.assert_close(found.objective[-1], found.score + found.log_prior)
    named = {"method": "bayesian", "steps": 1}
    plain = pv.optimise(pair, lambda x: score(x).numpy(), start(), **named)
    assert plain.score.equal(pv.optimise(pair, score, start(), **named).score)
    with pytest.raises(ValueError, match="score must give numbers, one for each datum, and gave 'high'"):
        pv.optimise(pair, lambda _: "high", start(), **named)
    with pytest.raises(ValueError, match="no score is a finite number"):
        pv.optimise(pair, lambda x: x.sum(-1) + torch.nan, start(), method="bayesian", steps=1)


def test_without_botorch_a_search_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "botorch.fit", None)
    with pytest.raises(ImportError, match=r"pip install 'ppl_vae\[bayesian\]'"):
        pv.optimise(make_pair().double(), lambda x: x.sum(-1), start(), method="bayesian")
    with pytest.raises(ValueError, match="method must be one of 'ascent', 'bayesian'"):
        pv.optimise(make_pair().double(), lambda x: x.sum(-1), start(), method="botorch")
