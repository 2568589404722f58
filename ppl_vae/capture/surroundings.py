"""What stands around Pyro's own step while it is traced."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppl_vae.capture.errors import CaptureError

_INFER = str(Path(pyro.__file__).parent / "infer")


@contextmanager
def same_store() -> Iterator[None]:
    """Pyro's parameter store is as before afterwards; CaptureError for a parameter that is new in it."""
    store = pyro.get_param_store()
    tables: list[dict[Any, Any]] = [store._params, store._param_to_name, store._constraints]
    before = [dict(table) for table in tables]
    new: list[str] = []
    try:
        yield
        new = [name for name in store._params if name not in before[0]]
    finally:
        for table, copy in zip(tables, before, strict=True):
            table.clear()
            table.update(copy)
    if new:
        raise CaptureError(f"parameter {new[0]!r} is not made in every run")


@contextmanager
def no_random_numbers_outside() -> Iterator[None]:
    """CaptureError for random numbers of Python's or NumPy's, and for seeds: in a graph they would stand still."""
    numpy_state = np.random.get_state()  # noqa: NPY002  the generator that programs draw from
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    torch.rand(())  # a state that no seed leads back to
    moved = torch.get_rng_state()
    drawn = ""
    try:
        yield
        if random.getstate() != python_state:
            drawn = "draws from Python's random numbers"
        elif repr(np.random.get_state()) != repr(numpy_state):  # noqa: NPY002
            drawn = "draws from NumPy's random numbers"
        elif not torch.equal(torch.get_rng_state(), moved):
            drawn = "seeds torch's random numbers"
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
    if drawn:
        raise CaptureError(f"a program {drawn}, which a captured step would not do")


class ItemsAsTensors(TorchFunctionMode):
    """Pyro's losses turn their results into numbers by `item`; traced, they stay tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.item and sys._getframe(1).f_code.co_filename.startswith(_INFER):
            return args[0].detach()
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """No looks at values: none by distributions made earlier; and plates count without a tensor's help."""
    draw, count = _Subsample.sample, IndepMessenger.__iter__
    validate = torch.distributions.Distribution._validate_sample
    whole: dict[int, tuple[Tensor, range]] = {}

    def drawn(self: Any, *args: Any) -> Tensor:
        indices: Tensor = draw(self, *args)
        if self.subsample_size is None or self.subsample_size >= self.size:
            whole[id(indices)] = indices, range(self.size)
        return indices

    def counted(self: Any) -> Iterator[Any]:
        _, indices = whole.get(id(self._indices), (None, self._indices))
        given, self._indices = self._indices, indices
        try:
            yield from count(self)
        finally:
            self._indices = given

    changed: list[tuple[Any, str, Any, Any]] = [
        (_Subsample, "sample", drawn, draw),
        (IndepMessenger, "__iter__", counted, count),
        (torch.distributions.Distribution, "_validate_sample", lambda *_: None, validate),
    ]
    for kind, name, new, _ in changed:
        setattr(kind, name, new)
    try:
        yield
    finally:
        for kind, name, _, old in changed:
            setattr(kind, name, old)
