"""Imputing, against conditional laws that are known."""

from __future__ import annotations

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import Radial
from torch import nn

import ppl_vae as pv
from ppl_vae import data, guides, likelihoods, models, nets
from ppl_vae.core.sites import PairError
from ppl_vae.evaluate import imputation
from tests.sampling.helpers import assert_matches, linear_gaussian


def gaps(rows: int):
    """Patterns of both entries, none twice missing."""
    pattern = torch.tensor([[True, False], [False, True], [True, True]])
    return pattern.repeat(rows // 3 + 1, 1)[:rows]


@torch.no_grad()
def exact(model, x, observed):
    """Mean and variance (B,) of the one missing entry given the other; rows without one left out."""
    noise = (2 * model.log_scale).exp()
    covariance = model.weight @ model.weight.T + noise * torch.eye(2, dtype=x.dtype)
    rows = ~observed.all(-1)
    missing = (~observed).long().argmax(-1)[rows]
    seen = 1 - missing
    slope = covariance[missing, seen] / covariance[seen, seen]
    there = x[rows].gather(-1, seen[:, None]).squeeze(-1)
    mean = model.bias[missing] + slope * (there - model.bias[seen])
    return rows, missing, mean, covariance[missing, missing] - slope * covariance[missing, seen]


METHODS = [
    ("importance", {"num_proposals": 20_000}, 300),
    ("hmc", {"warmup": 30, "num_leapfrogs": 4, "num_chains": 10}, 300),
    ("anneal", {"num_temperatures": 40, "num_leapfrogs": 2}, 300),
    ("metropolis-within-gibbs", {"warmup": 20, "num_chains": 40}, 300),
]


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize(("method", "options", "size"), METHODS)
def test_draws_have_the_exact_conditional_law_whatever_the_guide(method, options, size, scale):
    oracle, x = linear_gaussian(scale)
    observed = gaps(len(x))
    rows, missing, mean, variance = exact(oracle.pair.model, x, observed)
    if method == "importance" and scale < 1:
        pytest.skip("weights of a guide that is too narrow have no variance, and k-hat says so")
    if method == "importance":  # it sees zeros in the gaps
        with torch.no_grad():
            oracle.pair.guide.lower.mul_(1.6)
    result = pv.impute(
        oracle.pair, x, observed=observed, method=method, num_samples=1200, progress=False, **options
    )
    found = result.draw[:, rows].gather(-1, missing.expand(1200, -1)[..., None])
    assert_matches(found, mean[:, None], variance[:, None, None], size)
    centre = result.mean[rows].gather(-1, missing[:, None]).squeeze(-1)
    assert torch.allclose(centre, mean, atol=4 * float((variance / size).sqrt().max()))
    assert torch.equal(result.draw[:, observed], x[observed].expand(1200, -1))
    assert torch.equal(result.mean[observed], x[observed])


def test_pseudo_gibbs_is_exact_under_the_exact_guide_alone():
    """Under a guide that is too narrow its draws are too narrow, which the accept step mends."""
    spread = {}
    for scale in (1.0, 0.4):
        oracle, x = linear_gaussian(scale)
        observed = gaps(len(x))
        rows, missing, _, variance = exact(oracle.pair.model, x, observed)
        result = pv.impute(
            oracle.pair, x, observed=observed, method="pseudo-gibbs", num_samples=2000, num_chains=100,
            warmup=30, progress=False,
        )  # fmt: skip
        found = result.draw[:, rows].gather(-1, missing.expand(2000, -1)[..., None]).squeeze(-1)
        spread[scale] = float((found.var(0) / variance).mean())
    assert abs(spread[1.0] - 1) < 0.1
    assert spread[0.4] < 0.8


def test_parts_of_a_batch_are_completed_alike(monkeypatch):
    """A part without a gap too; where something is hidden, the means agree."""
    oracle, x = linear_gaussian(data=9)
    observed = gaps(9)
    options = {"observed": observed, "num_samples": 4, "num_proposals": 4000, "progress": False}
    with torch.no_grad():
        oracle.pair.guide.lower.mul_(1.5)
    whole = pv.impute(oracle.pair, x, **options)
    monkeypatch.setattr(imputation, "_NUMBERS", 2 * 4000)
    parts = pv.impute(oracle.pair, x, **options)
    assert parts.draw.shape == whole.draw.shape
    assert parts.k_hat.shape == (9,)
    assert torch.equal(parts.draw[:, observed], whole.draw[:, observed])
    assert torch.allclose(parts.mean, whole.mean, atol=0.3)
    assert torch.equal(parts.hidden["x"], ~observed)


def table():
    generator = torch.Generator().manual_seed(0)
    size = torch.randn(60, generator=generator)
    noise = torch.randn(60, generator=generator)
    kind = ["large" if value > 0 else "small" for value in size]
    return {"size": (10 * size + 50).tolist(), "weight": (size + 0.1 * noise).tolist(), "kind": kind}


def test_a_table_is_imputed_in_its_own_units():
    columns = table()
    for row in range(0, 60, 3):
        columns["kind"][row] = None
    for row in range(1, 60, 3):
        columns["size"][row] = None
    whole = data.table(columns, valid_fraction=0, test_fraction=0.1, seed=0)
    likelihood = likelihoods.Mixed.of(whole.schema)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = nets.MLPDecoder(2, likelihood.raw_shape(whole.shape), (16,))
        guide = guides.MeanField(nets.ColumnEncoder.of(whole.schema, 2, hidden=(16,)))
    pair = pv.Pair(models.VAE(likelihood, decoder, 2), guide)
    pv.fit(pair, pv.estimators.IWAE(5), whole, epochs=20, batch_size=18, progress=False, learning_rate=1e-2)
    result = pv.impute(pair, whole.train, method="metropolis-within-gibbs", num_samples=5, progress=False)
    frame = result.frame()
    assert set(frame["entry"]) == {"size", "kind"}
    assert set(frame.loc[frame["entry"] == "kind", "value"]) <= {"large", "small"}
    sizes = frame.loc[frame["entry"] == "size", "value"].astype(float)
    assert 20 < sizes.mean() < 80
    assert len(result.tables()) == 5
    assert not any(each.isna().any().any() for each in result.tables())
    (x,) = whole.train.tensors()[:1]
    assert torch.equal(result.hidden["x"], x.isnan())
    assert bool(((result.mean[..., 2] >= 0) & (result.mean[..., 2] <= 1)).all())  # of two classes


class TwoParts(nn.Module):
    """One site observes two arguments side by side, in another order; another is of whole numbers."""

    def forward(self, first, second, n):
        with pyro.plate("data", len(first), dim=-1):
            z = pyro.sample("z", dist.Normal(first.new_zeros(()), 1.0))
            both = torch.stack([second, first], -1)
            pyro.sample("both", dist.Normal(z.unsqueeze(-1), 0.5).expand([*z.shape, 2]).to_event(1), obs=both)
            pyro.sample("n", dist.Poisson(z.exp()), obs=n)


class TwoPartsGuide(nn.Module):
    def forward(self, first, second, n):
        with pyro.plate("data", len(first), dim=-1):
            pyro.sample("z", dist.Normal(0.4 * (first + second), 1.0))


def test_what_a_site_observes_may_come_from_several_arguments():
    first, second = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, -1.0])
    n = torch.tensor([3, 4, 0])
    observed = {
        "first": torch.tensor([True, False, True]),
        "n": torch.tensor([True, True, False]),
    }
    result = pv.impute(
        pv.Pair(TwoParts(), TwoPartsGuide()), first, second, n, observed=observed, num_samples=500,
        num_proposals=5000, progress=False,
    )  # fmt: skip
    assert set(result.draws) == {"first", "n"}
    assert torch.equal(result.draws["first"][:, [0, 2]], first[[0, 2]].expand(500, 2))
    assert torch.equal(result.draws["n"][:, :2], n[:2].expand(500, 2))
    assert result.draws["n"].dtype == n.dtype
    line = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    prior = -0.5 * line.square()
    seen = prior - 0.5 * ((0.0 - line) / 0.5).square() + 4 * line - line.exp()  # the second datum
    z = float((seen.softmax(0) * line).sum())
    assert float(result.means["first"][1]) == pytest.approx(z, abs=0.05)
    both = prior - 0.5 * ((0.0 - line) / 0.5).square() - 0.5 * ((-1.0 - line) / 0.5).square()
    count = float((both.softmax(0) * line.exp()).sum())
    assert float(result.means["n"][2]) == pytest.approx(count, rel=0.08)


class OneWay(nn.Module):
    """A flow that nobody can turn round."""

    def __init__(self):
        super().__init__()
        self.transform = Radial(3)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            base = dist.Normal(x[:, :3], 1.0).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [self.transform]))


def test_what_cannot_be_imputed_is_named():
    oracle, x = linear_gaussian()
    with pytest.raises(ValueError, match=r"nothing is missing.*observed=mask"):
        pv.impute(oracle.pair, x, progress=False)
    with pytest.raises(ValueError, match="method must be one of"):
        pv.impute(oracle.pair, x, method="mean", progress=False)
    pair = pv.Pair(models.LinearGaussian(3, 5), OneWay())
    gappy = torch.randn(4, 5).masked_fill(torch.eye(4, 5).bool(), torch.nan)
    with pytest.raises(PairError, match=r"does not tell the density.*method='hmc', or for 'pseudo-gibbs'"):
        pv.impute(pair, gappy, method="metropolis-within-gibbs", warmup=1, progress=False)
    assert pv.impute(pair, gappy, method="pseudo-gibbs", warmup=2, progress=False).draw.isfinite().all()


class Follows(nn.Module):
    """x ~ N(z + 5, 0.1), and y ~ N(x, 0.1) of the site's value or of the argument."""

    def __init__(self, argument):
        super().__init__()
        self.argument = argument

    def forward(self, x, y):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            drawn = pyro.sample("x", dist.Normal(z + 5, 0.1), obs=x)
            pyro.sample("y", dist.Normal(x if self.argument else drawn, 0.1), obs=y)


def from_prior(x, y):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))


@pytest.mark.parametrize("method", ["guide", "metropolis-within-gibbs"])
def test_what_follows_another_hidden_site_follows_its_draws(method):
    x, y = (torch.tensor([torch.nan, 5.0, each]) for each in (5.5, torch.nan))
    result = pv.impute(
        pv.Pair(Follows(False), from_prior), x, y, method=method, num_samples=400, progress=False
    )
    difference = result.draws["y"][:, 0] - result.draws["x"][:, 0]
    assert float(difference.mean()) == pytest.approx(0.0, abs=4.5 * 0.1 / 20)
    assert float(difference.std()) == pytest.approx(0.1, rel=0.2)
    assert float(result.draws["y"][:, 2].mean()) != pytest.approx(0.0, abs=3.0)
    with pytest.raises(PairError, match=r"site 'y' would be drawn from another distribution.*outside obs="):
        pv.impute(pv.Pair(Follows(True), from_prior), x, y, method=method, progress=False)


def test_gaps_are_gaps_in_whatever_holds_the_data():
    model, guide = models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2, hidden=(4,)))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    x[1, 0] = x[2, 1] = torch.nan
    expected = pv.impute(pv.Pair(model, guide), x, num_samples=2, progress=False).mean
    frame = pd.DataFrame(x.numpy(), columns=["a", "b", "c"])
    for each in (x.numpy(), x.tolist(), {"x": x}, (x,), frame):
        found = pv.impute(pv.Pair(model, guide), each, num_samples=2, progress=False)
        torch.testing.assert_close(found.mean, expected)
    shown = pd.DataFrame(~x.isnan().numpy(), columns=["a", "b", "c"])
    found = pv.impute(pv.Pair(model, guide), x.nan_to_num(), observed=shown, num_samples=2, progress=False)
    torch.testing.assert_close(found.mean, expected)
    x[0, 0] = torch.inf
    with pytest.raises(data.DataError, match="row 0 holds an infinite value"):
        pv.impute(pv.Pair(model, guide), x, progress=False)
    with pytest.raises(data.DataError, match="values of type object are not numbers"):
        pv.impute(pv.Pair(model, guide), x.numpy().astype(object), progress=False)


def test_chains_that_hardly_move_are_told():
    """The guide leads far away from the posterior, and a few accept steps do not lead back."""
    oracle, x = linear_gaussian(0.5, shift=9.0)
    observed = gaps(len(x))
    with pytest.warns(
        UserWarning, match=r"100.0% of the data took fewer than 3 of the latents.*method='hmc'"
    ):
        result = pv.impute(
            oracle.pair, x, observed=observed, method="metropolis-within-gibbs", warmup=20, progress=False
        )
    rows, missing, mean, variance = exact(oracle.pair.model, x, observed)
    error = result.mean[rows].gather(-1, missing[:, None]).squeeze(-1) - mean
    assert float((error.abs() / variance.sqrt()).min()) > 3
