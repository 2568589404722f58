"""Random mixtures of trainings, evaluations and questions in threads:
each comes to what it comes to alone.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch.distributions import Distribution

import ppl_vae as pv
from ppl_vae import Pair, estimators, evaluate
from ppl_vae.core.isolation import ONE_THREAD
from ppl_vae.testing import check_pair
from tests.attacks.helpers import X, assert_none, make_pair, record, state, times

SHARED = make_pair(1)  # asked by all threads at once


def new_pair() -> Pair:
    with ONE_THREAD:  # initial weights are drawn from torch's random numbers, which all threads share
        return make_pair()


ACTIONS: dict[str, Callable[[], Any]] = {
    "fit": lambda: state(pv.fit(new_pair(), estimators.IWAE(3), X, epochs=2, seed=2, progress=False).pair),
    "fit with Pyro's": lambda: state(
        pv.fit(new_pair(), pyro.infer.Trace_ELBO(num_particles=2), X, epochs=1, progress=False).pair
    ),
    "bounds": lambda: evaluate.bounds(SHARED, X, progress=False).elbo,
    "log_likelihood": lambda: evaluate.log_likelihood(SHARED, X, 50, progress=False).value,
    "sample": lambda: pv.sample(SHARED, 5, seed=3).values["x"].tolist(),
    "encode": lambda: pv.encode(SHARED, X, num_samples=2, seed=3).latents["z"].tolist(),
    "check_pair": lambda: str(check_pair(SHARED, X[:4])),
}


def test_mixtures_in_threads():
    alone = {name: action() for name, action in ACTIONS.items()}
    choose, found = random.Random(6), []
    before = torch.get_rng_state(), SHARED.training
    for trial in range(times(4, 300)):
        names = choose.choices(list(ACTIONS), k=choose.randint(2, 6))
        start = threading.Barrier(len(names))

        def run(name: str) -> None:
            start.wait()
            try:
                if ACTIONS[name]() != alone[name]:
                    found.append(f"{trial}: {name} beside {names}: another result")
            except Exception as error:
                found.append(f"{trial}: {name} beside {names}: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), f"{names} wait for one another"
        same = torch.equal(before[0], torch.get_rng_state()) and SHARED.training is before[1]
        if not (same and pyro.infer.is_validation_enabled() and Distribution._validate_args):
            found.append(f"{trial}: {names}: the caller's state is another")
        assert_none(found, "threads were in one another's way")
        record("mixtures in threads", trials=trial + 1, other_results=0)
