"""With the same random numbers and no subsampling, ours are Pyro's: values and gradients."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO

from ppl_vae import Pair, estimators
from tests.oracle import make_pair
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
)

pytestmark = pytest.mark.usefixtures("double")


def vectorised(loss, nesting, **kwargs):
    return loss(vectorize_particles=True, max_plate_nesting=nesting, **kwargs)


def gradients(loss, pair, *batch):
    pair.zero_grad(set_to_none=True)
    pyro.set_rng_seed(7)
    value = loss.loss_and_grads(*pair.pyro(), *batch)
    return value, [p.grad.clone() for p in pair.parameters()]


def pairs():
    x = torch.randn(6, 5)
    yield "linear_gaussian", make_pair(perturb=0.3), (x,), 1
    yield "chain", Pair(ChainModel(), ChainGuide()), (x[:, :2],), 2
    mask = torch.tensor([[True, False], [True, True], [False, False]] * 2)
    yield "masked", Pair(ChainModel(), ChainGuide()), (x[:, :2], mask), 2
    yield "scaled", Pair(ChainModel(scale=0.3), ChainGuide(scale=0.3)), (x[:, :2],), 2


@pytest.mark.parametrize("num_particles", [1, 4])
@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda K: estimators.ELBO(K), lambda K, n: vectorised(Trace_ELBO, n, num_particles=K)),
        (
            lambda K: estimators.MeanFieldELBO(K),
            lambda K, n: vectorised(TraceMeanField_ELBO, n, num_particles=K),
        ),
        (lambda K: estimators.IWAE(K), lambda K, n: vectorised(RenyiELBO, n, num_particles=K, alpha=0.0)),
        (
            lambda K: estimators.Renyi(0.4, K),
            lambda K, n: vectorised(RenyiELBO, n, num_particles=K, alpha=0.4),
        ),
        (
            lambda K: estimators.Renyi(-2.0, K),
            lambda K, n: vectorised(RenyiELBO, n, num_particles=K, alpha=-2.0),
        ),
    ],
    ids=["ELBO", "MeanFieldELBO", "IWAE", "Renyi0.4", "Renyi-2"],
)
def test_values_and_gradients_equal_pyro(ours, theirs, case, num_particles):
    _, pair, batch, nesting = list(pairs())[case]
    value, gradient = gradients(ours(num_particles), pair, *batch)
    expected, expected_gradient = gradients(theirs(num_particles, nesting), pair, *batch)
    assert value == pytest.approx(expected, rel=1e-10)
    for got, wanted in zip(gradient, expected_gradient, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("num_particles", [1, 4])
def test_score_function_gradient_equals_pyro(num_particles):
    pair, x = Pair(BernoulliModel(), BernoulliGuide()), torch.randn(6)
    value, gradient = gradients(estimators.ELBO(num_particles), pair, x)
    expected, expected_gradient = gradients(vectorised(Trace_ELBO, 1, num_particles=num_particles), pair, x)
    assert value == pytest.approx(expected, rel=1e-10)
    for got, wanted in zip(gradient, expected_gradient, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(estimators.ELBO, Trace_ELBO), (estimators.MeanFieldELBO, TraceMeanField_ELBO)]
)
def test_global_latents_equal_pyro_under_subsampling(ours, theirs):
    pair, x = Pair(GlobalMeanModel(20), GlobalMeanGuide(20)), torch.randn(5)
    index = torch.tensor([3, 1, 4, 15, 9])
    value, gradient = gradients(ours(4), pair, x, index)
    expected, expected_gradient = gradients(vectorised(theirs, 1, num_particles=4), pair, x, index)
    assert value == pytest.approx(expected, rel=1e-10)
    for got, wanted in zip(gradient, expected_gradient, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("estimator", [estimators.ELBO(2), estimators.MeanFieldELBO(), estimators.IWAE(3)])
def test_stock_svi_trains_with_ours(estimator):
    pair, x = make_pair(perturb=0.5), torch.randn(64, 5)
    svi = SVI(*pair.pyro(), pyro.optim.Adam({"lr": 1e-2}), estimator)
    before = svi.evaluate_loss(x)
    for _ in range(150):
        svi.step(x)
    assert svi.evaluate_loss(x) < before - 10
    assert all(name.startswith("pair") for name in pyro.get_param_store())


@pytest.mark.parametrize("loss", [Trace_ELBO(), TraceMeanField_ELBO(), RenyiELBO(0.5, num_particles=3)])
def test_stock_losses_train_a_pair_in_place(loss):
    pair, x = make_pair(perturb=0.5), torch.randn(64, 5)
    before = [p.detach().clone() for p in pair.parameters()]
    SVI(*pair.pyro(), pyro.optim.Adam({"lr": 1e-2}), loss).step(x)
    assert all((p != b).any() for p, b in zip(pair.parameters(), before, strict=True))
    pair.forget_pyro()
    assert len(pyro.get_param_store()) == 0


def test_two_pairs_never_meet_in_the_parameter_store():
    first, second, x = make_pair(seed=1), make_pair(seed=2), torch.randn(8, 5)
    for pair in (first, second):
        SVI(*pair.pyro(), pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO()).step(x)
    assert len(pyro.get_param_store()) == 2 * len(list(first.parameters()))


def test_the_elbo_module_of_pyro_takes_ours():
    pair, x = make_pair(perturb=0.1), torch.randn(4, 5)
    loss = estimators.IWAE(5)(pair.model, pair.guide)(x)
    loss.backward()
    assert all(p.grad is not None for p in pair.parameters())
