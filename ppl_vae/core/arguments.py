"""The tensors that a program takes, by the names of its arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pyro.poutine.messenger import _bound_partial
from pyro.poutine.reparam_messenger import ReparamHandler
from pyro.poutine.trace_messenger import TraceHandler

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def arguments_of(program: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of a program's positional arguments; None where they cannot be known, as of `*batch`.

    >>> arguments_of(lambda x, y=None: None)
    ('x', 'y')
    """
    found = parameters_of(program)
    return None if found is None else tuple(each.name for each in found if each.kind in POSITIONAL)


def within_handlers(program: Any) -> Any:
    """The program inside `poutine.condition(program, ...)` and its like, and inside of a partial."""
    while (inner := _within_handler(program)) is not None or isinstance(program, functools.partial):
        program = program.func if inner is None else inner
    return program


def _within_handler(program: Any) -> Any:
    """The program that one of Pyro's handlers is around; None where it is no handler."""
    if isinstance(program, _bound_partial):  # whose last argument is the program
        return program.args[-1]
    return program.fn if isinstance(program, ReparamHandler | TraceHandler) else None


def parameters_of(program: Any) -> list[inspect.Parameter] | None:
    """What a program takes, a Module in its `forward`, within handlers or not; None where it is `*batch`.

    A Module that takes as many tensors as it was made for writes `*batch`, and says their names by an
    attribute `argument_names`, a tuple.
    """
    while (inner := _within_handler(program)) is not None:
        program = inner
    if hasattr(program, "own_parameters"):  # a `ProgramModule` knows the one inside of it
        return parameters_of(program.program)
    try:
        found = list(inspect.signature(getattr(program, "forward", program)).parameters.values())
    except (TypeError, ValueError):  # what is written in C may not say
        return None
    if not any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in found):
        return found
    names = getattr(program, "argument_names", None)
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        return None
    return [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
