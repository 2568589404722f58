"""Which program of a pair runs now, for what Pyro itself is told by no effect handler."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import pyro
from pyro.nn.module import _Context
from pyro.poutine.runtime import effectful
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_vae.core.own_parameters import OwnParameters, exchanged
from ppl_vae.core.sites import DATA_PLATE


class _Running(NamedTuple):
    own_parameters: OwnParameters
    plate: str | None
    undo: list[Callable[[], None]]


_running: ContextVar[_Running | None] = ContextVar("running", default=None)


@contextmanager
def inside(own_parameters: OwnParameters, plate: str | None) -> Iterator[None]:
    """Within it a program runs that owns these, and whose plate of data is called so."""
    running = _Running(own_parameters, plate, [])
    token = _running.set(running)
    try:
        yield
    finally:
        _running.reset(token)
        for undo in reversed(running.undo):
            undo()


def data_plate() -> str:
    """The name of the plate of data in the program that runs now."""
    running = _running.get()
    return DATA_PLATE if running is None or running.plate is None else running.plate


class _LocalState:
    """What a PyroModule needs under Pyro's setting `module_local_params`, and has only if made under it."""

    def __get__(self, context: Any, owner: type) -> Any:
        return self if context is None else context.__dict__.setdefault("param_state", _nothing())


def _nothing() -> dict[str, dict[str, Any]]:
    return {"params": {}, "constraints": {}}


_Context.param_state = _LocalState()  # type: ignore[assignment]
_as_written = pyro.primitives.module
_of_store = pyro.get_param_store().get_param


def answer(
    name: str, *initial: Any, constraint: Any = constraints.real, event_dim: int | None = None
) -> Tensor:
    """What `pyro.param` gives where no handler answers: the value of the pair's whose program runs now.

    An autoguide looks at its model behind a `poutine.block`, which no handler outside sees through.
    """
    running = _running.get()
    if running is None:
        return _of_store(name, *initial, constraint=constraint, event_dim=event_dim)  # type: ignore[no-any-return]
    return running.own_parameters.value(name, initial[0] if initial else None, constraint)


pyro.primitives._param = effectful(answer, type="param")


_registered: ContextVar[dict[nn.Module, None] | None] = ContextVar("registered", default=None)


@contextmanager
def registered(modules: dict[nn.Module, None]) -> Iterator[None]:
    """Inside, whatever is given to `pyro.module` is put into `modules`."""
    token = _registered.set(modules)
    try:
        yield
    finally:
        _registered.reset(token)


@functools.wraps(_as_written)
def _module(name: str, nn_module: nn.Module, update_module_params: bool = False) -> nn.Module:
    running = _running.get()
    if running is not None and isinstance(nn_module, nn.Module):
        # a copy of a pair, or one from a file, has parameters of its own for a function's nets
        known = running.own_parameters.hold(name, nn_module)
        if known is not nn_module:
            running.undo.append(exchanged(nn_module, known))
    if (modules := _registered.get()) is not None and isinstance(nn_module, nn.Module):
        modules[nn_module] = None
    return _as_written(name, nn_module, update_module_params)


pyro.module = pyro.primitives.module = _module
