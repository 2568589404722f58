"""OwnParameters: what `pyro.param` and `pyro.module` make in a pair's programs, apart from Pyro's store."""

from __future__ import annotations

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

    def value(self, name: str, initial: Any, constraint: Any) -> Tensor:
        """The constrained value of a parameter, which is made of `initial` where it is new.

        Raises:
            PairError: for one that is new and has no initial value, or one outside its constraint.
        """
        if isinstance(initial, nn.Parameter) and self._holds(name, initial):
            return initial
        key = _key(name)
        if key not in self.unconstrained:
            self.unconstrained[key] = _unconstrained(name, initial, constraint)
        # a program that reads a parameter again, pyro.param("scale"), need not repeat its constraint
        known = self._constraints.setdefault(key, constraint) if initial is None else constraint
        self._constraints[key] = known
        parameter: Tensor = self.unconstrained[key]
        return parameter if known is constraints.real else transform_to(known)(parameter)

    def hold(self, name: str, module: nn.Module, replaces: bool) -> None:
        """Take over a module that a program names by `pyro.module`.

        Raises:
            PairError: for another module under the same name, which would not be the one that is trained.
        """
        key = _key(name)
        known = dict(self.modules_by_name.items()).get(key)
        if known is None:
            self.modules_by_name[key] = module
        elif known is not module and not replaces:
            raise PairError(
                f"pyro.module({name!r}, ...) names another module than in the run before, so the one that is "
                f"trained would not be the one that is used: make the {type(module).__name__} once, outside "
                "of the program"
            )

    def _holds(self, name: str, parameter: nn.Parameter) -> bool:
        module = _key(name.partition(_DIVIDER)[0])
        return (
            _DIVIDER in name
            and module in self.modules_by_name
            and any(parameter is each for each in self.modules_by_name[module].parameters())
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # a program that has not run yet has not made its parameters
        begin = f"{prefix}unconstrained."
        for name, tensor in state_dict.items():
            if name.startswith(begin) and (key := name.removeprefix(begin)) not in self.unconstrained:
                self.unconstrained[key] = nn.Parameter(torch.empty_like(tensor))
        super()._load_from_state_dict(state_dict, prefix, *rest)


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
