"""What a pair of a user's own costs: its two programs, and nothing else, anywhere."""

from __future__ import annotations

import inspect

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate
from ppl_vae.testing import check_pair


class RobustFactors(nn.Module):
    """Factors seen through noise with heavy tails, whose weight is learned: no model of the zoo."""

    def __init__(self, latent_dim=3, data_dim=10):
        super().__init__()
        self.latent_dim, self.data_dim = latent_dim, data_dim
        self.loading = nn.Linear(latent_dim, data_dim)
        self.log_degrees, self.log_scale = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Laplace(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            noise = dist.StudentT(1 + self.log_degrees.exp(), self.loading(z), self.log_scale.exp())
            pyro.sample("x", noise.to_event(1), obs=x)


class TwoLooks(nn.Module):
    """A normal whose location is linear, whatever the outliers, and whose scale is not."""

    def __init__(self, latent_dim=3, data_dim=10):
        super().__init__()
        self.latent_dim, self.data_dim = latent_dim, data_dim
        self.loc = nn.Sequential(nn.Softsign(), nn.Linear(data_dim, latent_dim))
        self.log_scale = nn.Linear(data_dim, latent_dim)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            scale = self.log_scale(x.tanh()).exp()
            pyro.sample("z", dist.Normal(self.loc(x), scale).to_event(1))


@pytest.fixture(scope="module")
def vectors():
    return data.load("linear_gaussian", num_data=300)


def made(seed=0):
    torch.manual_seed(seed)
    return pv.Pair(RobustFactors(), TwoLooks())


def test_it_is_written_in_under_thirty_lines():
    sources = [inspect.getsource(program).splitlines() for program in (RobustFactors, TwoLooks)]
    lines = [line for source in sources for line in source if line.strip() and '"""' not in line]
    assert len(lines) < 30
    assert RobustFactors.__bases__ == TwoLooks.__bases__ == (nn.Module,)


def test_trained_judged_and_loaded(vectors, tmp_path):
    pair = made()
    assert "the pair keeps the contract" in str(check_pair(pair, *vectors.train.take(8).tensors()))
    before = evaluate.bounds(pair, vectors.test).elbo
    pv.fit(
        pair,
        estimators.IWAE(5),
        vectors,
        epochs=20,
        batch_size=20,
        learning_rate=1e-2,
        run_dir=tmp_path,
        progress=False,
    )
    after = evaluate.summary(pair, vectors.test, num_particles=50, progress=False)
    assert after.bounds.elbo > before + 5
    loaded = pv.load(tmp_path, trust=[__name__])
    assert evaluate.bounds(loaded, vectors.test).elbo == after.bounds.elbo


def test_compared(vectors):
    point = pv.comparison.at_point(
        made(), [estimators.ELBO, estimators.DReG], vectors.test.take(2),
        num_particles=(1, 4), draws=20, evidence_particles=50, progress=False,
    )  # fmt: skip
    assert "DReG" in str(point)
    trained = pv.comparison.after_training(
        made, {"ELBO": estimators.ELBO(), "IWAE(5)": estimators.IWAE(5)}, vectors,
        epochs=1, judge_particles=20, progress=False, n_jobs=1,
    )  # fmt: skip
    assert {"ELBO", "IWAE(5)"} <= set(str(trained).replace("|", " ").split())


def test_questioned(vectors):
    pair, (x,) = made(), vectors.test.take(6).tensors()
    pair.remember((x,))
    assert pv.sample(pair, 4).value.shape == (4, 10)
    assert pv.reconstruct(pair, x).mean.shape == (6, 10)
    code = pv.encode(pair, x).mean
    torch.testing.assert_close(code, pair.guide.loc(x))
    torch.testing.assert_close(pv.decode(pair, code).mean, pair.model.loading(code))
    assert pv.interpolate(pair, x[:3], x[3:], steps=5).mean.shape == (5, 3, 10)
    assert pv.traverse(pair, x, values=[-1, 1]).mean.shape == (3, 2, 6, 10)
