"""Threads: what runs in several of one process comes to what it comes to one after the other."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightning_fabric  # noqa: F401  sets NVML's variable
import numpy as np
import pyro
import pytest
import torch
from torch import nn
from torch.distributions import Distribution

import ppl_vae as pv
from ppl_vae import Pair, comparison, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.comparison.gradients import GradientSampler
from ppl_vae.core import isolation
from ppl_vae.core.isolation import ONE_THREAD
from ppl_vae.testing import check_estimator, check_pair

X = torch.rand(60, 6, generator=torch.Generator().manual_seed(0)).round()


def make_pair(seed: int = 0) -> Pair:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = nets.MLPDecoder(latent_dim=2, shape=(6,), hidden=(8,), dropout=0.1)
        model = models.VAE(likelihoods.Bernoulli(event_dim=1), decoder, latent_dim=2)
        return Pair(model, guides.MeanField(nets.MLPEncoder((6,), 2, hidden=(8,))), example=(X[:8],))


def train(seed: int, epochs: int = 3, **options: Any) -> list[torch.Tensor]:
    pair = PAIRS[seed]
    pair.load_state_dict(FRESH[seed])
    pv.fit(pair, estimators.IWAE(2), X, epochs=epochs, batch_size=20, seed=seed, progress=False, **options)
    return [value.clone() for value in pair.state_dict().values()]


PAIRS = {seed: make_pair(seed) for seed in range(4)}
FRESH = {
    seed: {name: value.clone() for name, value in pair.state_dict().items()} for seed, pair in PAIRS.items()
}


def side_by_side(*actions: Callable[[], Any]) -> list[Any]:
    """The results of the actions, each in a thread of its own, all started at once."""
    results: list[Any] = [None] * len(actions)
    start = threading.Barrier(len(actions))

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = actions[number]()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "the threads wait for one another"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def surroundings() -> dict[str, Any]:
    """What belongs to the whole process."""
    return {
        "torch's random numbers": torch.get_rng_state().tolist(),
        "Python's": random.getstate(),
        "NumPy's": repr(np.random.get_state()),  # noqa: NPY002
        "validation of distributions": pyro.distributions.is_validation_enabled(),
        "of inference": pyro.infer.is_validation_enabled(),
        "of handlers": pyro.poutine.is_validation_enabled(),
        "torch's": Distribution._validate_args,
        "NVML": os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK"),
        "gradients": torch.is_grad_enabled(),
        "small numbers": (1e-310 * torch.ones(1, dtype=torch.float64)).item(),
        "handlers": list(pyro.poutine.runtime._PYRO_STACK),
        "parameters": len(pyro.get_param_store()),
    }


def changed(before: dict[str, Any]) -> list[str]:
    """What of it is no longer so."""
    now = surroundings()
    return [name for name in now if now[name] != before[name]]


@pytest.fixture(autouse=True)
def _surroundings_unchanged():
    before = surroundings()
    yield
    assert not changed(before)


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("pyros", "torchs", "times"), [(True, True, 3), (False, True, 1), (True, False, 1)])
def test_fits_side_by_side_train_as_one_after_the_other(pyros, torchs, times):
    serial = [train(seed) for seed in range(3)]
    pyro.enable_validation(pyros)
    Distribution.set_default_validate_args(torchs)
    known = surroundings()
    for _ in range(times):
        threaded = side_by_side(*(lambda s=seed: train(s) for seed in range(3)))
        assert all(same(ours, theirs) for ours, theirs in zip(serial, threaded, strict=True))
    assert not changed(known)
    pyro.enable_validation(True)


def test_a_fit_beside_evaluations_leaves_their_numbers_alone():
    pair, data = make_pair(3), X[:20]

    def ask() -> tuple[float, ...]:
        return (
            evaluate.log_likelihood(pair, data, 40, progress=False).value,
            evaluate.bounds(pair, data, progress=False).elbo,
            float(sum(evaluate.active_units(pair, data, progress=False).total.values())),
        )

    serial, weights = ask(), train(0)
    for _ in range(3):
        found, trained, again = side_by_side(ask, lambda: train(0), ask)
        assert found == again == serial
        assert same(trained, weights)


def test_seven_questions_in_four_threads_have_the_answers_of_one():
    pair = make_pair()
    few = X[:5]
    z = pv.encode(pair, few, seed=1).means["z"]
    questions = [
        lambda: pv.sample(pair, 4, seed=1).values["x"],
        lambda: pv.encode(pair, few, num_samples=3, seed=1).latents["z"],
        lambda: pv.reconstruct(pair, few, num_samples=2, seed=1).values["x"],
        lambda: pv.decode(pair, {"z": z}, seed=1).values["x"],
        lambda: pv.interpolate(pair, few[:1], few[1:2], seed=1).values["x"],
        lambda: pv.traverse(pair, few[:1], dims=[0], steps=3, seed=1).values["x"],
        lambda: evaluate.bounds(pair, few, progress=False).per_datum,
    ]
    serial = [ask() for ask in questions]
    for answers in side_by_side(*[lambda: [ask() for ask in questions] for _ in range(4)]):
        for ours, theirs in zip(serial, answers, strict=True):
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_checks_and_estimators_losses_in_threads():
    pair, estimator = make_pair().eval(), estimators.IWAE(3)

    def losses() -> None:
        for _ in range(10):
            with torch.no_grad():
                assert np.isfinite(estimator.loss(pair.model, pair.guide, X))
            estimator.draw(pair.model, pair.guide, X)
            check_pair(pair, X[:6])

    state = torch.get_rng_state()
    side_by_side(losses, losses, lambda: train(1), lambda: check_estimator(estimators.ELBO(), repeats=20))
    torch.set_rng_state(state)  # a loss uses the caller's random numbers up


def test_two_fits_of_one_pair_are_two_trainings_in_a_row():
    def twice(in_threads: bool) -> list[torch.Tensor]:
        pair = make_pair(2)

        def once() -> None:
            pv.fit(pair, estimators.ELBO(), X, epochs=2, batch_size=20, progress=False)

        _ = side_by_side(once, once) if in_threads else (once(), once())
        return list(pair.state_dict().values())

    assert same(twice(True), twice(False))


def test_compare_runs_with_joblibs_threads(tmp_path):
    def run(folder: str, n_jobs: int) -> Any:
        with joblib.parallel_config(backend="threading"):
            return comparison.after_training(
                make_pair, [estimators.ELBO(), estimators.IWAE(2)], X, judge_on=X[:20], judge_particles=10,
                epochs=2, seeds=[0, 1], run_dir=tmp_path / folder, n_jobs=n_jobs, progress=False,
                device="cpu",
            )  # fmt: skip

    serial, threaded = run("serial", 1), run("threads", 3)
    columns = [name for name in serial.table if "seconds" not in name]
    assert serial.table[columns].equals(threaded.table[columns])


class Explodes(nn.Module):
    """A guide that raises after some calls, within Pyro's handlers."""

    def __init__(self, guide: nn.Module, error: type[BaseException]) -> None:
        super().__init__()
        self.guide, self.error, self.left = guide, error, 0

    def forward(self, x: torch.Tensor) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error("bang")
        return self.guide(x)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("after", [0, 1, 12])
def test_whatever_a_program_raises_the_surroundings_are_as_before(error, after):
    pair = make_pair()
    pair.guide = Explodes(pair.guide, error)
    modes = [part.training for part in pair.modules()]
    Distribution.set_default_validate_args(False)
    for calls, ask in (
        (0, lambda: pv.encode(pair, X, seed=0)),
        (after, lambda: evaluate.log_likelihood(pair, X, 50, batch_size=3, progress=False)),
        (min(after, 1), lambda: check_pair(pair, X)),
    ):
        pair.guide.left = calls
        with pytest.raises((error, pv.PairError)):
            ask()
        assert Distribution._validate_args is False
    assert [part.training for part in pair.modules()] == modes
    pair.guide.left = after
    stopped = ""
    with contextlib.suppress(error, pv.PairError):  # Ctrl-C is the end of the training
        stopped = pv.fit(pair, estimators.ELBO(), X, batch_size=20, progress=False, check=False).stopped
    assert stopped in ("", "interrupted")
    assert Distribution._validate_args is False
    Distribution.set_default_validate_args(True)
    side_by_side(lambda: train(0, epochs=1))  # and the lock is free


def test_a_generator_left_half_way_has_changed_nothing():
    pair = make_pair()
    before, mode = surroundings(), pair.training
    draws = GradientSampler(pair, estimators.IWAE(2), (X,)).draw(3000, seed=1)
    next(draws)
    assert not changed(before)
    assert pair.training is mode
    side_by_side(lambda: train(0, epochs=1))  # another thread does not wait for it
    del draws


class DrawsElsewhere(nn.Module):
    """A guide that draws from Python's and NumPy's random numbers too."""

    def __init__(self, guide: nn.Module) -> None:
        super().__init__()
        self.guide = guide

    def forward(self, x: torch.Tensor) -> Any:
        return self.guide(x + np.random.rand() + random.random())  # noqa: NPY002


def test_a_training_has_random_numbers_of_pythons_and_numpys_from_its_seed():
    weights = []
    for draws_before in (0, 3):
        random.seed(draws_before)
        np.random.seed(draws_before)  # noqa: NPY002
        before, pair = surroundings(), make_pair()
        pair.guide = DrawsElsewhere(pair.guide)
        pv.fit(pair, estimators.ELBO(), X, epochs=2, batch_size=20, progress=False, check=False, seed=4)
        assert not changed(before)
        weights.append(list(pair.state_dict().values()))
    assert same(*weights)
    pyro.set_rng_seed(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_another_thread_is_in_does_not_wait_for_it():
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with isolation.validation(False), pyro.poutine.trace(), isolation.without_nvml():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    before = surroundings()
    thread.start()
    inside.wait(60)
    child = os.fork()
    if child == 0:
        free = ONE_THREAD.acquire(timeout=20)
        left = [name for name in changed(before) if name != "Python's"]  # Python seeds them itself
        os._exit(0 if free and not left else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_by_the_thread_that_is_in_goes_on_with_it():
    with isolation.validation(False):
        child = os.fork()
        if child == 0:
            os._exit(0 if not pyro.infer.is_validation_enabled() and isolation._undo else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_numpys_numbers_are_options_as_pythons_are():
    """A small whole number of NumPy's overflows in a product, and torch splits by Python's alone."""
    pair = make_pair(1)

    def bounds(num_particles, batch_size):
        options = {"num_particles": num_particles, "batch_size": batch_size, "progress": False}
        return evaluate.bounds(pair, X, **options).elbo

    assert bounds(np.uint8(100), np.int64(7)) == bounds(100, 7)
    assert len(pv.sample(pair, np.uint8(3), seed=np.int32(5)).values["x"]) == 3


def test_nothing_sets_pyros_validation_but_what_puts_all_of_it_back():
    """`pyro.validation_enabled` leaves torch's validation as Pyro's was."""
    package = Path(pv.__file__).parent
    sources = [*package.rglob("*.py"), *(package / "models").glob("*.py"), *(package / "guides").glob("*.py")]
    assert [
        path.name for path in sources if "pyro.validation_enabled(" in path.read_text(encoding="utf-8")
    ] == []
