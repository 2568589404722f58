"""Leaving things as they were: random numbers, modes and settings of one's own for a while,
one thread at a time.

Pyro's stack of handlers, its validation and parameter store, and torch's random numbers belong to the whole
process and not to a thread. So whatever of ours uses them holds `ONE_THREAD` meanwhile, and a second thread
waits until the first is done: `fit` to its end, an evaluation to its result. It is no error, since both then
come to exactly what they would have come to one after the other; and `fit` does not hand over between epochs,
since the two may share parameters. What a thread does with Pyro or torch's random numbers on its own account,
beside a thread that is in here, goes under the same lock::

    with ONE_THREAD:
        pyro.infer.SVI(model, guide, optim, loss).step(x)

So do nets that are built in a thread, whose initial weights are drawn: nothing here can keep another thread's
`torch.randn` from moving the numbers that a training draws.
"""

from __future__ import annotations

import functools
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pyro
import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn
from torch.distributions import Distribution

P = ParamSpec("P")
R = TypeVar("R")

ONE_THREAD = threading.RLock()
"""Held by whatever uses what the process has but once; a second thread waits, the same one may enter again.

Taken as it is, and not by a class of ours: between a Python line that takes it and one that would give it
back a Ctrl-C could fall, and no other thread would ever run again.
"""

_undo: list[Callable[[], None]] = []  # what would undo the settings of the thread that is in here


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """`function` under `ONE_THREAD`; NumPy's single numbers among its arguments come in as Python's.

    torch does not take all of them, and products of small ones overflow.
    """

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        plain = {name: _plain(value) for name, value in kwargs.items()}
        with ONE_THREAD:
            return function(*map(_plain, args), **plain)  # type: ignore[arg-type]

    return alone


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.number | np.bool_) else value


@contextmanager
def _until_the_end(undo: Callable[[], None]) -> Iterator[None]:
    """`undo` afterwards, whatever happens, and in a process that another thread forks meanwhile."""
    _undo.append(undo)
    try:
        yield
    finally:
        undo()
        _undo.remove(undo)


@contextmanager
def random_numbers(seed: int | None, device: torch.device) -> Iterator[None]:
    """Random numbers from `seed`, on the CPU and on `device`; the caller's are as before afterwards.

    With `seed=None` the caller's random numbers are used, and used up.

    Raises:
        ValueError: for a seed that is none.
    """
    with ONE_THREAD:
        if seed is None:
            yield
            return
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not -(2**63) <= seed < 2**64:
            raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, or None, got {seed!r}")
        on_cuda = device.type == "cuda"
        with torch.random.fork_rng(devices=[device] if on_cuda else [], device_type="cuda"):
            # torch.manual_seed would also seed accelerators whose state is not restored here
            torch.default_generator.manual_seed(int(seed))
            if on_cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(int(seed))
            yield


@contextmanager
def python_random_numbers(seed: int) -> Iterator[None]:
    """The same for Python's and NumPy's, from which a user's program may draw."""
    with ONE_THREAD:
        python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def python_random_numbers_kept(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with Python's and NumPy's random numbers from its keyword `seed`, 0 by default."""

    @functools.wraps(function)
    def keeping(*args: P.args, **kwargs: P.kwargs) -> R:
        seed = kwargs.get("seed", 0)
        with python_random_numbers(
            seed if isinstance(seed, int) else 0
        ):  # another kind is `function`'s to refuse
            return function(*args, **kwargs)

    return keeping


@contextmanager
def validation(enabled: bool) -> Iterator[None]:
    """Pyro's and torch's validation on or off; each is as before afterwards.

    `pyro.validation_enabled` sets torch's to what Pyro's was.
    """
    with ONE_THREAD:
        distributions, inference = (
            pyro.distributions.is_validation_enabled(),
            pyro.infer.is_validation_enabled(),
        )
        handlers, torchs = pyro.poutine.is_validation_enabled(), Distribution._validate_args

        def undo() -> None:
            pyro.distributions.enable_validation(distributions)
            pyro.infer.enable_validation(inference)
            pyro.poutine.enable_validation(handlers)
            Distribution.set_default_validate_args(torchs)

        with _until_the_end(undo):
            pyro.enable_validation(enabled)
            yield


@contextmanager
def without_nvml() -> Iterator[None]:
    """torch does not ask NVML whether there is a GPU, as Lightning has it do at every optimizer step."""
    with ONE_THREAD:
        asked = os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK")

        def undo() -> None:
            if asked is not None:
                os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = asked

        with _until_the_end(undo):
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
            yield


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """All submodules in eval mode; each gets its own mode back, also after an exception."""
    with ONE_THREAD:
        modes = {part: part.training for module in modules for part in module.modules()}

        def undo() -> None:
            for module in modules:
                for part in module.modules():  # what came in meanwhile is as the whole was
                    part.training = modes.get(part, modes[module])
            for part, mode in modes.items():
                part.training = mode

        with _until_the_end(undo):
            for module in modules:
                module.eval()
            yield


@contextmanager
def questioning(module: nn.Module, seed: int | None, device: torch.device) -> Iterator[None]:
    """What every evaluation and every query runs under: eval mode, no gradients, its own randomness.

    Raises:
        ValueError: for a module without values, on the device "meta".
    """
    if device.type == "meta":
        raise ValueError(
            "the pair is on the device 'meta', where parameters have shapes and no values: build it on "
            "another, or pair.to_empty(device='cpu') and then pair.load_state_dict(...)"
        )
    with eval_mode(module), torch.no_grad(), random_numbers(seed, device):
        yield


def _in_forked_child() -> None:
    """A process forked by another thread than the one in here: that one is gone, and with it what it held."""
    if ONE_THREAD.acquire(blocking=False):  # nobody's, or the forking thread's own, which goes on
        ONE_THREAD.release()
        return
    ONE_THREAD._at_fork_reinit()  # type: ignore[attr-defined]
    _PYRO_STACK.clear()
    while _undo:
        _undo.pop()()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
