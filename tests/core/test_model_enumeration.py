"""Sites that are marked for enumeration: summed where the guide has them, and where the model alone does."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate
from ppl_vae.testing import check_pair
from ppl_vae.testing.linter import valid_estimators
from tests.core.summed_programs import Empty

pytestmark = pytest.mark.usefixtures("double")


class Model(nn.Module):
    """x is normal around one of two means, k; `mark` says how k is marked."""

    def __init__(self, mark):
        super().__init__()
        self.mark = mark
        self.means, self.logits = (
            nn.Parameter(torch.tensor([-1.0, 2.0])),
            nn.Parameter(torch.tensor([0.3, 0.0])),
        )

    def forward(self, x):
        infer = {"enumerate": "parallel"} if self.mark == "infer" else {}
        with pyro.plate("data", len(x), dim=-1):
            k = pyro.sample("k", dist.Categorical(logits=self.logits), infer=infer)
            return pyro.sample("x", dist.Normal(self.means[k], 1.0), obs=x)


class Guide(nn.Module):
    def __init__(self, infer):
        super().__init__()
        self.infer, self.slope = infer, nn.Parameter(torch.tensor(0.6))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            if self.infer is not None:
                logits = torch.stack([-self.slope * x, x], -1)
                pyro.sample("k", dist.Categorical(logits=logits), infer=self.infer)


def make(mark, infer):
    pair = pv.Pair(Model(mark), Empty() if infer is None else Guide(infer))
    if mark == "config_enumerate":
        marked = pyro.infer.config_enumerate(pair.model.forward, "parallel")
        pair.model.forward = marked
    return pair


def exact(pair, x):
    k = torch.arange(2)
    log_q = torch.stack([-pair.guide.slope * x, x], -1).log_softmax(-1)
    log_p = pair.model.logits.log_softmax(0)[k] + dist.Normal(pair.model.means[k], 1.0).log_prob(x[:, None])
    return (log_q.exp() * (log_p - log_q)).sum()


X = torch.linspace(-2, 3, 10, dtype=torch.float64)


@pytest.mark.parametrize("mark", ["infer", "config_enumerate"])
@pytest.mark.parametrize("infer", [{"enumerate": "parallel"}, {"enumerate": "sequential"}])
@pytest.mark.parametrize(
    "estimator", [pyro.infer.TraceEnum_ELBO(max_plate_nesting=1), estimators.EnumeratedELBO()]
)
def test_a_site_that_both_programs_have_is_summed_over(mark, infer, estimator):
    pair = make(mark, infer)
    check_pair(pair, X, estimator=estimator)
    wanted = exact(pair, X).item() / len(X)
    run = pv.fit(pair, estimator, X, epochs=1, batch_size=10, capture=False, progress=False)
    assert run.history["train_bound"][0] == pytest.approx(wanted)


def test_the_models_mark_alone_counts_for_nothing_where_the_guide_draws():
    pair = make("infer", {})
    check_pair(pair, X, estimator=estimators.EnumeratedELBO())
    check_pair(pair, X, estimator=estimators.ELBO())
    loss = estimators.EnumeratedELBO().loss(pair.model, pair.guide, X)
    assert loss == pytest.approx(-exact(pair, X).item())


@pytest.mark.parametrize("mark", ["infer", "config_enumerate", "none"])
def test_a_site_of_the_model_alone_is_summed_over(mark):
    pair = make(mark, None)
    mixture = dist.MixtureSameFamily(
        dist.Categorical(logits=pair.model.logits), dist.Normal(pair.model.means, 1.0)
    )
    wanted = mixture.log_prob(X)
    assert check_pair(pair, X).summed_sites == {"k": 2}
    assert "summed    k  2 values" in str(check_pair(pair, X))
    bounds = evaluate.bounds(pair, X)
    torch.testing.assert_close(bounds.per_datum, wanted.detach())
    assert bounds.kl == {}
    likelihood = evaluate.log_likelihood(pair, X, num_particles=10, progress=False)
    torch.testing.assert_close(likelihood.per_datum, wanted.detach())
    for estimator in (estimators.EnumeratedELBO(), estimators.ELBO(), estimators.IWAE(3)):
        check_pair(pair, X, estimator=estimator)
        run = pv.fit(
            pair, estimator, X, epochs=1, batch_size=10, capture=False, progress=False, learning_rate=1e-9
        )
        assert run.history["train_bound"][0] == pytest.approx(wanted.mean().item())


def test_pyros_estimator_sums_over_what_is_marked_and_no_other_one_does():
    enum = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    for mark in ("infer", "config_enumerate"):
        pair = make(mark, None)
        run = pv.fit(pair, enum, X, epochs=1, batch_size=10, capture=False, progress=False)
        assert run.history["train_bound"][0] == pytest.approx(
            -estimators.ELBO().loss(*again(mark), X) / len(X)
        )
    with pytest.raises(PairError, match=r"lacks the sites \['k'\].*infer={'enumerate': 'parallel'}"):
        check_pair(make("none", None), X, estimator=enum)
    with pytest.raises(PairError, match=r"lacks the sites \['k'\].*not a bound(.|\n)*EnumeratedELBO|ELBO"):
        check_pair(make("infer", None), X, estimator=pyro.infer.Trace_ELBO())
    assert "pyro.infer.TraceEnum_ELBO" in valid_estimators(make("infer", None), X)
    assert "pyro.infer.TraceEnum_ELBO" not in valid_estimators(make("none", None), X)
    assert "estimators.IWAE" in valid_estimators(make("none", None), X)


def again(mark):
    pair = make(mark, None)
    return pair.model, pair.guide
