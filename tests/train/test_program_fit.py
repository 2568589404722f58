"""Training of programs that are no Modules of our style: captured, in whole batches, with arrays by name."""

from __future__ import annotations

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate
from ppl_vae.core.meeting import meet
from tests.capture.helpers import assert_same_steps, sgd
from tests.core.test_program import functions
from tests.pyro_programs import EXAMPLES

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("VAE", estimators.IWAE(3)),
        ("conditional VAE", estimators.ELBO()),
        ("deep Markov model", estimators.ELBO()),
        ("flow", estimators.ELBO(2)),
        ("Bayesian regression", estimators.ELBO()),
        ("eight schools", estimators.ELBO()),
    ],
)
def test_the_captured_step_equals_the_written_one(double, name, estimator):
    pyro.clear_param_store()
    torch.manual_seed(0)
    example = EXAMPLES[name]()
    pair = pv.Pair(example.model, example.guide)
    batch = tuple(each.double() if each.is_floating_point() else each for each in example.batch)
    meet(pair, batch)
    assert_same_steps(pair.double(), estimator, [batch], sgd, steps=3)


@pytest.mark.filterwarnings("ignore:.*one by one")
def test_particles_one_by_one_are_captured(double):
    pair = pv.Pair(*functions(), vectorize=False)
    meet(pair, (X.double(),))
    for part in pair.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    assert_same_steps(pair.double(), estimators.DReG(3), [(X.double(),)], sgd, steps=3)


@pytest.mark.parametrize(
    "name", ["Bayesian regression", "eight schools", "topics", "mixture", "semi-supervised"]
)
def test_fit_takes_the_arrays_of_its_arguments(name):
    pyro.clear_param_store()
    torch.manual_seed(0)
    example = EXAMPLES[name]()
    pair = pv.Pair(example.model, example.guide)
    # by name, since an array without one is taken for measurements, and words are numbers of words
    data = dict(zip(pair.arguments, example.batch, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = pv.fit(pair, estimators.ELBO(), data, epochs=60, learning_rate=0.02, progress=False)
        bounds = evaluate.bounds(pair, data, 5)
    history = run.history["train_bound"]
    assert history.iloc[-10:].mean() > history.iloc[:10].mean()
    assert torch.tensor(bounds.elbo).isfinite()


def test_parameters_for_each_datum_train_on_all_of_them_in_their_order():
    """A mean-field posterior with a location for each datum finds the posterior of each."""
    x = torch.linspace(-3, 3, 20)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: torch.zeros(len(x)))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 0.5**0.5))

    pair = pv.Pair(model, guide)
    pv.fit(pair, estimators.ELBO(10), x, epochs=300, batch_size=20, learning_rate=0.05, progress=False)
    loc = pair.guide.own_parameters.value("loc", None, None).detach()
    torch.testing.assert_close(loc, x / 2, rtol=0, atol=0.15)
    with pytest.raises(PairError, match=r"parameters for each of 8 data, and here are 20 in batches of 8"):
        pv.fit(pv.Pair(model, guide), estimators.ELBO(), x, epochs=1, batch_size=8, progress=False)


def shared(size=None):
    """A mean that all data share, their number said or not."""

    def plate(x):
        return pyro.plate("rows", size or len(x), subsample_size=len(x))

    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with plate(x):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(0.1), constraint=dist.constraints.positive)
        pyro.sample("mean", dist.Normal(loc, scale))

    return pv.Pair(model, guide)


def test_latents_that_all_data_share_are_counted_once():
    """In batches too the posterior of a mean is found; where N is not said, batches are refused."""
    x = torch.randn(40, generator=torch.Generator().manual_seed(3)) + 1.0
    with pytest.raises(PairError, match=r"counted for every 8 data and not once for 40.*subsample_size=len"):
        pv.fit(shared(), estimators.ELBO(), x, epochs=1, batch_size=8, progress=False)
    for pair, batch_size in ((shared(40), 8), (shared(), 40)):
        pv.fit(
            pair, estimators.ELBO(10), x, epochs=4 * batch_size, batch_size=batch_size, learning_rate=0.05,
            progress=False, schedule="cosine",
        )  # fmt: skip
        own = pair.guide.own_parameters
        assert own.value("loc", None, None).item() == pytest.approx(x.sum().item() / 41, abs=0.08)
        assert own.value("scale", None, None).item() == pytest.approx(41**-0.5, rel=0.35)
