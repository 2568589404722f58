"""Importance sampling with captured log-weights: the same numbers, faster."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from types import SimpleNamespace

import pyro
import pytest
import torch

from ppl_vae import Pair, PairError, estimators, evaluate, fit, guides, likelihoods, models, nets, priors
from ppl_vae.capture import CaptureError, worth
from ppl_vae.capture.worth import worth_numbers
from ppl_vae.core.isolation import questioning
from ppl_vae.evaluate import log_weights as module
from ppl_vae.evaluate.loop import batches
from tests.capture.helpers import PAIRS, images, inputs, needs_compiler, vae, without_compiling
from tests.capture.test_refusals import AngleModel, VonMisesGuide
from tests.evaluate.programs import TimeGuide, TimeModel
from tests.oracle import make_pair
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
    Subsampled,
)


@pytest.fixture
def uncompiled(monkeypatch):
    """Captured log-weights that are not compiled; the functions that were made."""
    return without_compiling(monkeypatch, module)


def log_likelihood(pair, x, capture, **options):
    options = {"num_particles": 30, "batch_size": 3, "chunk": 7, "progress": False} | options
    return evaluate.log_likelihood(pair, x, capture=capture, **options)


def assert_the_same(first, second, tolerance):
    assert first.per_datum.std() > 0
    for name in ("per_datum", "ess", "per_datum_monte_carlo_standard_error", "k_hat"):
        one, two = getattr(first, name), getattr(second, name)
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance, equal_nan=True)


def with_flow(dtype):
    return vae(dtype, guide=functools.partial(guides.IAF, num_transforms=2, hidden=(4,)))


def images_of_the_chain(dtype):
    mask = torch.tensor([[True, False]]).expand(8, 2).contiguous()
    return torch.linspace(-1, 1, 16, dtype=dtype).reshape(8, 2), mask


CASES = {
    **{name: (PAIRS[name], lambda dtype, name=name: inputs(name).to(dtype)) for name in PAIRS},
    "flow": (with_flow, lambda dtype: images(dtype=dtype)),
    "discrete": (
        lambda dtype: Pair(BernoulliModel(), BernoulliGuide()).to(dtype),
        lambda dtype: torch.linspace(-1, 1, 8, dtype=dtype),
    ),
    "inner plate": (
        lambda dtype: Pair(TimeModel(), TimeGuide()).to(dtype),
        lambda dtype: torch.linspace(-1, 1, 32, dtype=dtype).reshape(8, 4),
    ),
    "scale and mask": (lambda dtype: Pair(ChainModel(0.5), ChainGuide(0.5)).to(dtype), images_of_the_chain),
    "subsampling": (
        lambda dtype: Pair(Subsampled(BernoulliModel(), 50), Subsampled(BernoulliGuide(), 50)).to(dtype),
        lambda dtype: (torch.linspace(-1, 1, 8, dtype=dtype), torch.arange(8)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_the_programs_as_written(name, double, uncompiled):
    make, data = CASES[name]
    pair, x = make(torch.float64), data(torch.float64)
    assert_the_same(log_likelihood(pair, x, True), log_likelihood(pair, x, False), 1e-10)
    assert uncompiled[0].num_graphs == 1  # chunks of 6 particles; two batches of 3, and 2 data are left
    assert uncompiled[1].num_graphs == 0


def test_in_float32_too(uncompiled):
    pair, x = vae(), images()
    assert_the_same(log_likelihood(pair, x, True), log_likelihood(pair, x, False), 1e-5)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float32, marks=pytest.mark.grid), torch.float64], ids=str
)
def test_compiled(dtype):
    pair, x = vae(dtype), images(dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert_the_same(log_likelihood(pair, x, True), log_likelihood(pair, x, False), tolerance)


def test_seeds_repeat_and_the_callers_random_numbers_stay(uncompiled):
    pair, x = vae(), images()
    before = torch.get_rng_state()
    first, again, other = (log_likelihood(pair, x, True, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.per_datum, again.per_datum)
    assert not torch.equal(first.per_datum, other.per_datum)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_were_trained_meanwhile_are_seen(uncompiled):
    pair, x = vae(), images()
    before = log_likelihood(pair, x, True).value
    fit(pair, estimators.ELBO(), x, epochs=3, learning_rate=0.1, progress=False, device="cpu")
    after = log_likelihood(pair, x, True)
    assert after.value != before
    assert_the_same(after, log_likelihood(pair, x, False), 1e-5)


def test_each_batch_is_still_checked(uncompiled):
    x = images()
    x[4, 0, 0, 0] = 3.0  # in the second batch, which only a graph sees
    with pytest.raises(ValueError, match="data must be 0 or 1, found 3"):
        log_likelihood(vae(), x, True)


def test_nan_names_the_datum_and_the_site(uncompiled):
    pair, x = make_pair(), torch.randn(6, 5)
    pair.model.log_scale.data.fill_(math.nan)
    pyro.enable_validation(False)
    with pytest.raises(PairError, match=r"datum 0: .*NaN, from the log-likelihood of site 'x'"):
        log_likelihood(pair, x, True)


def test_global_latents_are_refused_by_name(uncompiled):
    pair = Pair(GlobalMeanModel(8), GlobalMeanGuide(8))
    with pytest.raises(PairError, match=r"importance weights per datum.*\['theta'\]"):
        log_likelihood(pair, (torch.randn(8), torch.arange(8)), True)


def test_what_cannot_be_captured_says_so_once(uncompiled, monkeypatch):
    pair, x = Pair(AngleModel(), VonMisesGuide()), torch.linspace(-1, 1, 8)
    monkeypatch.setattr(worth, "WORTH_NUMBERS", {"cpu": 1})
    monkeypatch.setattr(module, "LEAST_DRAWS", 1)
    monkeypatch.setattr(worth, "can_compile", lambda device: True)
    with pytest.warns(UserWarning, match=r"cannot be captured: site 'angle' \(VonMises\)") as caught:
        found = log_likelihood(pair, x, "auto")
    assert len(caught) == 1
    assert torch.equal(found.per_datum, log_likelihood(pair, x, False).per_datum)
    with pytest.raises(CaptureError, match="angle"):
        log_likelihood(pair, x, True)


def test_auto_captures_what_there_is_much_of(uncompiled, monkeypatch):
    pair, x = vae(), images()
    log_likelihood(pair, x, "auto")
    assert uncompiled[-1].num_graphs == 0
    monkeypatch.setattr(module, "LEAST_DRAWS", 1)
    monkeypatch.setattr(module, "work_per_draw", lambda batch: 16)
    # 30 particles are chunks of 6: 6 data in two full batches
    for enough, graphs in ((6 * 30 * 16, 1), (6 * 30 * 16 + 1, 0)):
        monkeypatch.setattr(worth, "WORTH_NUMBERS", {"cpu": enough})
        monkeypatch.setattr(worth, "can_compile", lambda device: True)
        log_likelihood(pair, x, "auto")
        assert uncompiled[-1].num_graphs == graphs
    with pytest.raises(ValueError, match="capture must be"):
        log_likelihood(pair, x, "always")


def test_a_count_decides(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(worth, "can_compile", lambda device: True)
    assert worth_numbers(1e11, cpu)
    assert not worth_numbers(1e10, cpu)
    assert not worth_numbers(1e11, SimpleNamespace(type="cuda"))


def test_auto_counts_the_work_and_not_the_size_of_a_datum(monkeypatch):
    """Ten million draws under a spline flow prior took a quarter of an hour,
    since MNIST's pixels alone were counted.
    """
    shape, cpu = (1, 28, 28), torch.device("cpu")
    monkeypatch.setattr(worth, "can_compile", lambda device: True)

    def work(prior):
        model = models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(40, shape, (300, 300)), 40, prior)
        pair = Pair(model, guides.MeanField(nets.MLPEncoder(shape, 40, (300, 300))))
        with questioning(pair, 0, cpu):
            state = torch.get_rng_state()
            _, runs = batches(
                pair,
                torch.zeros(4, *shape),
                1000,
                batch_size=None,
                chunk=None,
                progress=False,
                description="",
            )
            found = [module.work_per_draw(batch) for batch in [next(runs)] for _ in range(2)]
            assert torch.equal(torch.get_rng_state(), state)
        assert found[0] == found[1]
        return found[0]

    plain, flow = work(None), work(priors.Flow(40))
    assert worth_numbers(10_000 * 1000 * flow, cpu)
    assert not worth_numbers(10_000 * 1000 * plain, cpu)
    assert worth_numbers(10_000 * 5000 * plain, cpu)


MEMORY = """
import resource, torch
from ppl_vae import Pair, evaluate, guides, models, nets
torch.set_num_threads(1)
pair = Pair(models.LinearGaussian(2, 3000), guides.MeanField(nets.MLPEncoder((3000,), 2, hidden=(8,))))
x = torch.randn(2, 3000)
evaluate.log_likelihood(pair, x, 700, progress=False, chunk=350, capture=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluate.log_likelihood(pair, x, 10_500, progress=False, chunk=350, capture=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@needs_compiler
@pytest.mark.slow
@pytest.mark.grid
def test_memory_does_not_grow_with_the_particles():
    # all particles at once would take several tensors of 10,500 * 2 * 3,000 floats, 240 MB each
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(run.stdout) * unit < 120e6
