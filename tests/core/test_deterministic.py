"""`pyro.deterministic`: kept and not drawn, so the same numbers with it as without it, everywhere."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate, queries
from ppl_vae.testing import check_pair

X = torch.linspace(-1, 1, 24).reshape(12, 2)


class Program(nn.Module):
    """Either program of a linear pair, with or without what it computes on the way as sites."""

    def __init__(self, role, keeps, event_dim=None):
        super().__init__()
        self.role, self.keeps, self.event_dim = role, keeps, event_dim
        self.weight = nn.Parameter(torch.tensor([[0.5, 0.2], [0.1, 0.3]]))

    def keep(self, name, value):
        return pyro.deterministic(name, value, event_dim=self.event_dim) if self.keeps else value

    def forward(self, x):
        if self.role == "guide":
            self.keep("before", x.mean(0))
        with pyro.plate("data", len(x), dim=-1):
            if self.role == "guide":
                loc = self.keep("loc", x @ self.weight)
                pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))
            else:
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                mean = self.keep("mean", z @ self.weight)
                return pyro.sample("x", dist.Normal(mean, 0.8).to_event(1), obs=x)


def make(keeps, event_dim=None, in_guide=True):
    guide = Program("guide", keeps and in_guide, event_dim)
    return pv.Pair(Program("model", keeps, event_dim), guide, example=(X,))


@pytest.mark.parametrize("event_dim", [None, 1])
def test_check_pair_takes_it(event_dim):
    report = check_pair(make(True, event_dim), X)
    assert str(report) == str(check_pair(make(False), X))


@pytest.mark.parametrize(
    "make_estimator",
    [
        lambda: estimators.ELBO(3),
        lambda: estimators.IWAE(3),
        lambda: estimators.DReG(3),
        lambda: estimators.ReweightedWakeSleep(3, insomnia=0.5),
        estimators.EnumeratedELBO,
        pyro.infer.Trace_ELBO,
        lambda: pyro.infer.RenyiELBO(num_particles=2),
        lambda: pyro.infer.TraceEnum_ELBO(max_plate_nesting=1),
    ],
)
def test_training_is_the_same_with_it(make_estimator):
    histories = []
    for keeps in (True, False):
        run = pv.fit(make(keeps), make_estimator(), X, epochs=2, batch_size=6, capture=False, progress=False)
        histories.append(run.history.drop(columns="seconds"))
    assert histories[0].equals(histories[1])


@pytest.mark.parametrize("event_dim", [None, 1])
def test_scores_and_questions_are_the_same_with_it(event_dim):
    pairs = make(True, event_dim), make(False)
    bounds = [evaluate.bounds(pair, X, 3) for pair in pairs]
    assert bounds[0].elbo == bounds[1].elbo
    assert set(bounds[0].kl) == {"z"}
    scores = [evaluate.log_likelihood(pair, X, 5, progress=False).value for pair in pairs]
    assert scores[0] == scores[1]
    for question in (
        lambda pair: queries.sample(pair, 4, seed=0),
        lambda pair: queries.encode(pair, X, num_samples=3, seed=0),
        lambda pair: queries.reconstruct(pair, X, num_samples=3, seed=0),
        lambda pair: queries.decode(pair, torch.zeros(5, 4, 2), seed=0),
        lambda pair: queries.interpolate(pair, X[:2], X[2:4], seed=0),
        lambda pair: queries.traverse(pair, X[:2], seed=0),
    ):
        first, second = (question(pair) for pair in pairs)
        for kind in ("latents", "values", "means"):
            assert set(getattr(first, kind)) == set(getattr(second, kind)) <= {"z", "x"}
            for site, value in getattr(first, kind).items():
                torch.testing.assert_close(value, getattr(second, kind)[site], rtol=0, atol=0)


def test_what_pyro_cannot_treat_in_a_guide_is_refused_by_its_name():
    mean_field = pyro.infer.TraceMeanField_ELBO()
    with pytest.raises(PairError, match=r"pyro.deterministic sites \['before', 'loc'\].*MeanFieldELBO"):
        check_pair(make(True), X, estimator=mean_field)
    check_pair(make(True, in_guide=False), X, estimator=mean_field)
