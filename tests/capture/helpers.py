"""What the tests of the captured step share: pairs, steps, and the comparison with the eager step."""

from __future__ import annotations

import copy
import shutil

import pyro
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO

import ppl_vae as pv
from ppl_vae import estimators, guides, likelihoods, models, nets
from ppl_vae.capture.function import CapturedFunction
from ppl_vae.train.captured_step import CapturedStep
from ppl_vae.train.objective import Objective
from ppl_vae.train.step import Step
from tests.oracle import make_pair

STEPS, BATCH = 8, 8
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


def vae(dtype=torch.float32, likelihood=None, guide=guides.MeanField, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        likelihood = likelihood or likelihoods.Bernoulli()
        decoder = nets.MLPDecoder(3, likelihood.raw_shape((1, 4, 4)), (6,), **options)
        pair = pv.Pair(models.VAE(likelihood, decoder, 3), guide(nets.MLPEncoder((1, 4, 4), 3, (6,))))
    return pair.to(dtype)


def convolutional(dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = nets.ConvDecoder(3, (1, 8, 8), channels=4)
        encoder = nets.ConvEncoder((1, 8, 8), 3, channels=4, num_features=8)
        return pv.Pair(models.VAE(likelihoods.Bernoulli(), decoder, 3), guides.MeanField(encoder)).to(dtype)


def images(count=BATCH, dtype=torch.float32, side=4):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return (torch.rand(count, 1, side, side) < 0.4).to(dtype)


def adam(pair, **options):
    return torch.optim.Adam(pair.parameters(), lr=3e-3, **options)


def captured_step(pair, estimator, optimizer, *, backend="graph", penalties=None, **options):
    objective = Objective(pair, estimator)
    objective.penalties = penalties or {}
    return CapturedStep(objective, optimizer, backend=backend, same_noise=True, **options)


def difference(first, second):
    """The largest difference of two pairs' states, relative to each tensor's largest entry or 1e-2."""
    return max(
        ((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-2)).item()
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        if a.numel()
    )


def assert_same_steps(
    pair, estimator, batches, make=adam, backend="graph", steps=STEPS, before=lambda *_: None, **options
):
    """`steps` captured steps against as many eager ones, from the same weights and the same noise.

    `before(number, optimizer, pair)` is called before each. Returns the pair that was captured.
    """
    other, other_estimator = copy.deepcopy(pair), copy.deepcopy(estimator)
    optimizers = make(pair), make(other)
    eager = Step(pair, estimator, optimizers[0], **options)
    captured = captured_step(other, other_estimator, optimizers[1], backend=backend, **options)
    losses, in_turn = [], [batches[number % len(batches)] for number in range(steps)]
    for run, optimizer, each in zip((eager, captured), optimizers, (pair, other)):
        torch.manual_seed(5)
        found = []
        with pyro.validation_enabled(False):
            for number, batch in enumerate(in_turn):
                before(number, optimizer, each)
                found.append(run(*batch))
        losses.append(torch.stack(found))
    tolerance = TOLERANCE[pair.dtype]
    assert losses[0].std() > 0
    # Pyro's RenyiELBO gives a Python float, of which the eager step makes a float32
    rounding = max(tolerance, 4 * torch.finfo(losses[0].dtype).eps)
    torch.testing.assert_close(losses[1].to(losses[0].dtype), losses[0], rtol=rounding, atol=rounding)
    assert difference(pair, other) < tolerance
    count = sum(len(batch[0]) for batch in in_turn)
    means = eager.pop_means()
    sums = {name: total.item() / count for name, total in captured.pop().items()}
    assert sums.keys() == means.keys()
    assert sums == pytest.approx(means, rel=2 * rounding, abs=rounding)
    return other


PAIRS = {
    "dropout and batch norm": lambda dtype: vae(dtype, dropout=0.2, batch_norm=True),
    "full rank": lambda dtype: vae(dtype, guide=guides.FullRank),
    "convolutional": convolutional,
    "gaussian": lambda dtype: vae(dtype, likelihoods.Gaussian("per_output")),
    "laplace": lambda dtype: vae(dtype, likelihoods.Laplace("learned")),
    "poisson": lambda dtype: vae(dtype, likelihoods.Poisson()),
    "negative binomial": lambda dtype: vae(dtype, likelihoods.NegativeBinomial()),
    "linear gaussian": lambda dtype: make_pair(perturb=0.3).to(dtype),
}


def sgd(pair):
    """Not Adam, which divides by the rounding errors of the bias before a BatchNorm, that has no gradient."""
    return torch.optim.SGD(pair.parameters(), lr=1e-4)


def inputs(name):
    x = images(dtype=torch.float64, side=8 if name == "convolutional" else 4)
    return x.flatten(1)[:, :5] if name == "linear gaussian" else x


def estimator_name(estimator):
    return f"{type(estimator).__module__.split('.')[0]}-{type(estimator).__name__}-{estimator.num_particles}"


EVERY_ESTIMATOR = [
    estimators.ELBO(),
    estimators.ELBO(3),
    estimators.MeanFieldELBO(2),
    estimators.IWAE(3),
    estimators.Renyi(0.5, 3),
    estimators.STL(2),
    estimators.DReG(3),
    estimators.PIWAE(2, 2),
    estimators.TVO(3),
    estimators.ReweightedWakeSleep(3, insomnia=0.5),
    estimators.VIMCO(3),
    # told the nesting, which they else guess with a run that uses up random numbers
    Trace_ELBO(),
    Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1),
    TraceMeanField_ELBO(num_particles=2, max_plate_nesting=1),
    RenyiELBO(alpha=0.5, num_particles=3, vectorize_particles=True, max_plate_nesting=1),
]


def seeded(run, *arguments):
    torch.manual_seed(11)
    return run(*arguments).item()


def difference_of(first, second):
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


def without_compiling(monkeypatch, *modules):
    """Have the captured functions of these modules run uncompiled; gives the list of those that are made."""
    made = []

    def make(*arguments, **options):
        made.append(CapturedFunction(*arguments, **options, backend="graph"))
        return made[-1]

    for module in modules:
        monkeypatch.setattr(module, "CapturedFunction", make)
    return made
