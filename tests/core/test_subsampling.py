"""Subsampling inside the programs: the same numbers as on the data taken, times N/B,
and every row where all are asked for.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate, queries
from ppl_vae.testing import check_pair

pytestmark = pytest.mark.usefixtures("double")

N = 12
X = torch.linspace(-2, 2, N, dtype=torch.float64)


class Program(nn.Module):
    """Either program of x ~ N(z + b, 1), z ~ N(0, 1); `takes` is what it does with the plate."""

    def __init__(self, role, takes):
        super().__init__()
        self.role, self.takes = role, takes
        self.weight = nn.Parameter(torch.tensor(0.4 if role == "guide" else 0.1))

    def plate(self, x):
        size, options = {
            "all": (len(x), {}),
            "some": (len(x), {"subsample_size": 4}),
            "some of N": (N, {"subsample_size": 4}),
            "x of 100": (100, {"subsample_size": len(x)}),
            "the first": (len(x), {"subsample": torch.arange(4)}),
        }[self.takes]
        return pyro.plate("data", size, dim=-1, **options)

    def forward(self, x):
        with self.plate(x) as index:
            x = x if self.takes == "x of 100" else x[index]
            if self.role == "guide":
                return pyro.sample("z", dist.Normal(self.weight * x, 0.8))
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            return pyro.sample("x", dist.Normal(z + self.weight, 1.0), obs=x)


def make(takes):
    return pv.Pair(Program("model", takes), Program("guide", takes), example=(X,))


def elbo_per_datum(pair, x):
    """In closed form, (B,)."""
    loc, b = pair.guide.weight * x, pair.model.weight
    fit = dist.Normal(loc + b, 1.0).log_prob(x) - 0.5 * 0.8**2
    return fit - torch.distributions.kl_divergence(
        dist.Normal(loc, 0.8), dist.Normal(torch.zeros_like(x), 1.0)
    )


@pytest.mark.parametrize("takes", ["some", "some of N", "x of 100"])
def test_check_pair_takes_it(takes):
    report = check_pair(make(takes), X)
    assert str(report) == str(check_pair(make("all"), X))


def test_particles_say_which_data_the_plate_took():
    pair = make("some")
    particles = estimators.MeanFieldELBO().draw(pair.model, pair.guide, X)
    taken = particles.model_trace.nodes["x"]["value"]
    torch.testing.assert_close(X[particles.subsample], taken)
    assert (particles.batch_size, particles.scale) == (4, 3.0)
    assert estimators.ELBO().draw(make("all").model, make("all").guide, X).subsample is None


def test_the_loss_of_all_subsamples_averages_to_that_of_all_data():
    wanted = -elbo_per_datum(make("all"), X).sum().item()
    pair = make("some")
    for estimator in (estimators.MeanFieldELBO(200), TraceMeanField_ELBO(200, vectorize_particles=True)):
        losses = torch.tensor([estimator.loss(pair.model, pair.guide, X) for _ in range(100)])
        assert abs(losses.mean().item() - wanted) < 4.5 * losses.std().item() / 10


@pytest.mark.parametrize("takes", ["all", "some", "some of N"])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "make_estimator",
    [lambda: estimators.MeanFieldELBO(50), lambda: Trace_ELBO(num_particles=50, vectorize_particles=True)],
)
def test_fit_reports_the_bound_of_a_datum(make_estimator, check, takes):
    pair = make(takes)
    wanted = elbo_per_datum(pair, X).mean().item()
    run = pv.fit(
        pair, make_estimator(), X, epochs=40, batch_size=N, learning_rate=1e-12, optimizer="sgd",
        check=check, capture=False, progress=False,
    )  # fmt: skip
    for name in ("train_bound", "train_elbo"):
        if name in run.history:
            found = run.history[name]
            assert abs(found.mean() - wanted) < 4.5 * found.std() / 40**0.5 + 1e-9, name


def test_every_estimator_trains_on_a_subsample():
    for estimator in (
        estimators.ELBO(), estimators.IWAE(3), estimators.DReG(3), estimators.VIMCO(3), estimators.TVO(3),
        estimators.NVIL(nn.Unflatten(0, (N, 1)), 2), estimators.ReweightedWakeSleep(3), estimators.SUMO(2, 9),
        estimators.EnumeratedELBO(),
    ):  # fmt: skip
        run = pv.fit(make("some"), estimator, X, epochs=1, batch_size=N, capture=False, progress=False)
        assert run.history["train_bound"].notna().all(), estimator


def test_a_validation_sees_every_datum():
    pair = make("some")
    data = pv.data.from_tensors(X[:, None].repeat(5, 1), name="x", valid_fraction=0.2, test_fraction=0.2)
    pair = pv.Pair(Flat(pair.model), Flat(pair.guide))
    run = pv.fit(
        pair, estimators.MeanFieldELBO(20), data, epochs=1, batch_size=N, capture=False, progress=False
    )
    wanted = elbo_per_datum(make("all"), torch.cat([x for (x,) in data.valid.batches(100)])[:, 0])
    assert run.history["valid_bound"][0] == pytest.approx(wanted.mean().item(), abs=0.4)


class Flat(nn.Module):
    def __init__(self, program):
        super().__init__()
        self.program = program

    def forward(self, x):
        return self.program(x[:, 0])


@pytest.mark.parametrize("takes", ["some", "some of N", "x of 100"])
def test_scores_and_questions_are_about_every_row_in_its_order(takes):
    pair, plain = make(takes), make("all")
    # the numbers of other data are drawn, though nobody looks at them, so the noise is another
    near = {"rtol": 0, "atol": 0.2 if takes == "x of 100" else 1e-12}
    for score in (
        lambda each: evaluate.bounds(each, X, 400),
        lambda each: evaluate.log_likelihood(each, X, 400, progress=False),
    ):
        torch.testing.assert_close(score(pair).per_datum, score(plain).per_datum, **near)
    gap = evaluate.inference_gap(pair, X, 100, num_steps=2, progress=False)
    torch.testing.assert_close(gap.elbo_per_datum, elbo_per_datum(plain, X).detach(), rtol=0, atol=0.6)
    if takes == "x of 100":
        return
    for question in (
        lambda each: queries.sample(each, N, seed=0),
        lambda each: queries.encode(each, X, num_samples=2, seed=0),
        lambda each: queries.reconstruct(each, X, num_samples=2, seed=0),
    ):
        for kind in ("latents", "values", "means"):
            found = [getattr(question(each), kind) for each in (pair, plain)]
            for site, value in found[0].items():
                torch.testing.assert_close(value, found[1][site])


def test_what_cannot_be_is_refused_by_its_name():
    misfit = r"the plate 'data' takes 4 of 12 data, but the programs were called with 6 rows"
    pair = make("some of N")
    with pytest.raises(PairError, match=misfit):
        check_pair(pair, X[:6])
    for check in (True, False):
        with pytest.raises(PairError, match=misfit):
            pv.fit(
                pair, estimators.ELBO(), X, epochs=1, batch_size=6, check=check, capture=False, progress=False
            )
    with pytest.raises(PairError, match=misfit):
        evaluate.bounds(pair, X[:6])
    with pytest.raises(PairError, match="but the programs were called with 5 rows"):
        queries.sample(pair, 5)
    with pytest.raises(PairError, match=r"always takes the same 4 of 12 data.*subsample_size=4"):
        evaluate.bounds(make("the first"), X)
    with pytest.raises(PairError, match=r"always takes the same 4 of 12 data"):
        queries.encode(make("the first"), X)
    with pytest.raises(PairError, match=r"takes 4 data, but a batch has 2"):
        pv.fit(make("some"), estimators.ELBO(), X, epochs=1, batch_size=5, capture=False, progress=False)
