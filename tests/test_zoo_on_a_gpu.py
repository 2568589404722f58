"""Every pair of the zoo on a pretended GPU: under every estimator, every question and every evaluation each
number is the CPU's, to the last bit, and no tensor is made on the wrong device.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor

import ppl_vae as pv
from ppl_vae import evaluate
from ppl_vae.core.sites import PairError
from ppl_vae.testing.linter import check_estimator_for
from ppl_vae.testing.pretended_cuda import PretendedCuda
from ppl_vae.train.objective import Objective
from tests.test_zoo import ESTIMATORS, brightness
from tests.test_zoo_questions import above_and_below, annealed, imputed, posterior
from tests.zoo import PARTS, Case, split_of

every_part = pytest.mark.parametrize("case", PARTS)
pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU says it better"),
    pytest.mark.filterwarnings("ignore"),
]


def data_of(batch):
    return batch if len(batch) > 1 else batch[0]


def like(batch):
    return {"like": batch} if len(batch) > 1 else {}


def halves(batch):
    return [each[:2] for each in batch], [each[2:] for each in batch]


QUESTIONS = {
    "encode": lambda case, pair, batch: pv.encode(pair, *batch, seed=0),
    "sample": lambda case, pair, batch: pv.sample(pair, 4, seed=0, **like(batch)),
    "interpolate": lambda case, pair, batch: pv.interpolate(
        pair, *halves(batch), steps=3, site=case.site, seed=0
    ),
    "traverse": lambda case, pair, batch: pv.traverse(pair, halves(batch)[0], case.site, seed=0),
    "attribute": lambda case, pair, batch: pv.attribute(pair, *halves(batch)).apply(
        pair, halves(batch)[0], strength=(-0.1, 0.1), seed=0
    ),
    "optimise": lambda case, pair, batch: pv.optimise(pair, brightness, batch, like=batch, steps=3),
    "inference_data": lambda case, pair, batch: pv.inference_data(pair, *batch),
    "hmc": lambda case, pair, batch: posterior(pair, batch, num_chains=2, warmup=3),
    "anneal": lambda case, pair, batch: posterior(pair, batch, method="anneal", num_temperatures=3),
    "resample": lambda case, pair, batch: posterior(pair, batch, method="resample", num_proposals=40),
    "guide": lambda case, pair, batch: posterior(pair, batch, method="guide"),
    "metropolis": lambda case, pair, batch: imputed(pair, batch, "metropolis-within-gibbs"),
    "importance": lambda case, pair, batch: imputed(pair, batch, "importance"),
    "pseudo-gibbs": lambda case, pair, batch: imputed(pair, batch, "pseudo-gibbs"),
    "sandwich": lambda case, pair, batch: above_and_below(pair, batch),
    "ais": lambda case, pair, batch: annealed(pair, batch),
    "compress": lambda case, pair, batch: pv.compress(pair, data_of(batch)),
}
EVALUATIONS: dict[str, dict[str, Any]] = {
    "active_units": {},
    "anomaly": {},
    "bounds": {"num_particles": 5},
    "elbo_surgery": {},
    "holes": {},
    "inference_gap": {"num_particles": 20, "num_steps": 3},
    "log_likelihood": {"num_particles": 20},
    "predictive_check": {},
    "summary": {"num_particles": 20},
    "two_sample": {"num_permutations": 9},
}


def numbers(found: Any) -> Iterator[Tensor]:
    """All numbers of an answer but the seconds that it took."""
    if isinstance(found, Tensor):
        yield found.detach().cpu()
    elif (isinstance(found, np.ndarray) and found.dtype.kind in "fiub") or isinstance(found, float):
        yield torch.tensor(found)
    elif isinstance(found, dict | list | tuple):
        for each in found.values() if isinstance(found, dict) else found:
            yield from numbers(each)
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            if "second" not in field.name:
                yield from numbers(getattr(found, field.name))


def assert_the_same_there(case: Case, asked: Callable[[pv.Pair, tuple[Tensor, ...]], Any]) -> None:
    """Ask on the CPU and on the pretended GPU; what is refused is refused there in the same words."""

    def ask(device: str) -> tuple[list[Tensor], str]:
        pair, batch = case.pair().eval(), case.batch()
        pair.remember(batch)
        pair.to(device)
        pyro.set_rng_seed(3)
        try:
            return list(numbers(asked(pair, tuple(each.to(device) for each in batch)))), ""
        except (ValueError, NotImplementedError) as error:
            return [], str(error)

    here, refused = ask("cpu")
    with PretendedCuda():
        there, refused_there = ask("cuda")
    assert refused_there == refused
    assert len(here) == len(there)
    for a, b in zip(here, there):
        torch.testing.assert_close(b, a, rtol=0, atol=0, equal_nan=True)


def step(estimator: Any) -> Callable[[pv.Pair, tuple[Tensor, ...]], list[Tensor]]:
    def loss_and_gradients(pair, batch):
        # a copy: some keep a running mean of what they have seen
        loss, _ = Objective(pair, copy.deepcopy(estimator))(*batch)
        if loss.requires_grad:
            loss.backward()
        return [loss, *(p.grad for p in pair.parameters() if p.grad is not None)]

    return loss_and_gradients


@every_part
def test_a_step_and_codes(case):
    assert_the_same_there(case, step(case.estimator))
    assert_the_same_there(case, lambda pair, batch: pv.reconstruct(pair, *batch, seed=0))


@pytest.mark.parametrize("name", EVALUATIONS)
def test_the_grid_asks_what_there_is(name):
    """The grid below is run seldom."""
    signature = inspect.signature(getattr(evaluate, name))
    assert list(signature.parameters)[:2] == ["pair", "data"]
    signature.bind(None, None, **EVALUATIONS[name])


@pytest.mark.grid
@every_part
def test_every_estimator(case):
    for estimator in ESTIMATORS:
        try:
            check_estimator_for(case.pair().eval(), case.batch(), estimator)
        except PairError:
            continue
        assert_the_same_there(case, step(estimator))


@pytest.mark.grid
@every_part
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question(case, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few draws are not to be trusted, and that is said
        assert_the_same_there(case, lambda pair, batch: QUESTIONS[name](case, pair, batch))


@pytest.mark.grid
@every_part
@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_evaluation(case, name):
    ask = getattr(evaluate, name)
    assert_the_same_there(case, lambda pair, batch: ask(pair, data_of(batch), **EVALUATIONS[name]))


@pytest.mark.grid
@every_part
def test_a_training(case):
    def train(pair, batch):
        run = pv.fit(
            pair, case.estimator, split_of(case, batch), epochs=2, batch_size=2, progress=False,
            device=pair.device, capture=False,
        )  # fmt: skip
        return [run.history["train_bound"].to_numpy(), *pair.parameters()]

    assert_the_same_there(case, train)
