"""OwnParameters: what `pyro.param` and `pyro.module` make in a pair's programs, apart from Pyro's store."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints, transform_to

from ppl_vae.core.sites import PairError

_DIVIDER = "$$$"  # between a module's name and its parameter's, in Pyro's names


class OwnParameters(nn.Module):
    r"""What `pyro.param` and `pyro.module` make in a pair's programs, in place of Pyro's global store.

    As in Pyro's, a parameter is made at its first statement, kept unconstrained, and read through its
    constraint; a second statement of its name, in either program, gives the same one. Two pairs never meet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unconstrained = nn.ParameterDict()
        self.modules_by_name = nn.ModuleDict()
        self._constraints: dict[str, Any] = {}
        self.copies = False
        """Whether it holds copies of modules, so that those of a file's own stay as they are."""

    def value(self, name: str, initial: Any, constraint: Any) -> Tensor:
        """The constrained value of a parameter, which is made of `initial` where it is new.

        Raises:
            PairError: for one that is new and has no initial value, or one outside its constraint.
        """
        module, divider, _ = name.partition(_DIVIDER)
        if divider and isinstance(initial, Tensor) and _key(module) in self.modules_by_name:
            return initial
        key = _key(name)
        if key not in self.unconstrained:
            self.unconstrained[key] = _unconstrained(name, initial, constraint)
        # a program that reads a parameter again, pyro.param("scale"), need not repeat its constraint
        known = self._constraints.setdefault(key, constraint) if initial is None else constraint
        self._constraints[key] = known
        parameter: Tensor = self.unconstrained[key]
        return parameter if known is constraints.real else transform_to(known)(parameter)

    def hold(self, name: str, module: nn.Module) -> nn.Module:
        """The module that stands for one which a program names by `pyro.module`: itself, the first time.

        Raises:
            PairError: for another one under that name whose parameters are others.
        """
        key = _key(name)
        known = dict(self.modules_by_name.items()).get(key)
        if known is None:
            known = self.modules_by_name[key] = copy.deepcopy(module) if self.copies else module
        if known is not module and _layout(known) != _layout(module):
            raise PairError(
                f"pyro.module({name!r}, ...) names another module than before, and their parameters are not "
                "of the same names and shapes, so that one cannot stand for the other: give each its own name"
            )
        return known

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # a program that has not run yet has not made its parameters
        begin = f"{prefix}unconstrained."
        for name, tensor in state_dict.items():
            if name.startswith(begin) and (key := name.removeprefix(begin)) not in self.unconstrained:
                self.unconstrained[key] = nn.Parameter(torch.empty_like(tensor))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def exchanged(module: nn.Module, known: nn.Module) -> Callable[[], None]:
    """Let a module work with the parameters, buffers and modes of another; what comes back undoes it."""
    parts = list(zip(module.modules(), known.modules(), strict=True))
    kept = [(part, dict(part._parameters), dict(part._buffers), part.training) for part, _ in parts]

    def undo() -> None:
        for part, parameters, buffers, training in kept:
            part._parameters.update(parameters)
            part._buffers.update(buffers)
            part.training = training

    for part, other in parts:
        part._parameters.update(other._parameters)
        part._buffers.update(other._buffers)
        part.training = other.training
    return undo


def _layout(module: nn.Module) -> list[Any]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [len(list(module.modules())), *((name, tensor.shape) for name, tensor in tensors)]


def _key(name: str) -> str:
    return name.replace(".", "/")  # a Module's names have no dots


def _unconstrained(name: str, initial: Any, constraint: Any) -> nn.Parameter:
    if initial is None:
        raise PairError(
            f"pyro.param({name!r}) is read before it is made: give its initial value here or before"
        )
    if isinstance(initial, nn.Parameter) and constraint is constraints.real:
        return initial
    if callable(initial) and not isinstance(initial, Tensor):
        initial = initial()
    initial = initial.detach()
    if not bool(constraint.check(initial).all()):
        raise PairError(
            f"pyro.param({name!r}): its initial value is outside of its constraint {constraint}: begin inside"
        )
    with torch.no_grad():
        value = transform_to(constraint).inv(initial).contiguous().clone()
    return nn.Parameter(value)
