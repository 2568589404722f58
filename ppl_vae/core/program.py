"""ProgramModule: any Pyro program as a Module that owns what `pyro.param` and `pyro.module` make in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pyro
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_vae.core.arguments import arguments_of, within_handlers
from ppl_vae.core.own_parameters import OwnParameters
from ppl_vae.core.running import inside
from ppl_vae.core.sites import marked


class ProgramModule(nn.Module):
    """A Pyro program as a pair needs it, whatever it is: a function, a method, a PyroModule, an autoguide, a
    Module with `pyro.param` statements, or handlers around one of these.

    Args:
        program: what runs.
        own_parameters: where what it makes by `pyro.param` and `pyro.module` belongs.
        plate: the name of its plate of independent data.
        arguments: the names of a pair's tensors. A batch of as many is given by name, another as it is.
        one_by_one: why it cannot run with several particles at once, "" where that was said; None if it can.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        own_parameters: OwnParameters,
        plate: str | None = None,
        arguments: Sequence[str] | None = None,
        one_by_one: str | None = None,
    ) -> None:
        super().__init__()
        self.program = program
        self.one_by_one = one_by_one
        inside = within_handlers(program)
        # a PyroModule's methods make its parameters, as itself does; a plain Module is named by pyro.module
        owner = getattr(inside, "__self__", None)
        inside = owner if isinstance(owner, pyro.nn.PyroModule) else inside
        if isinstance(inside, nn.Module) and inside is not program:
            self.inside = inside  # a Module within handlers, which no attribute of a Module would show
        self.own_parameters = own_parameters
        self.plate = plate
        self.arguments = arguments
        takes = arguments_of(program)
        named = arguments is not None and takes is not None and set(takes) <= set(arguments)
        self._places = [arguments.index(name) for name in takes] if named else None  # type: ignore[union-attr]

    def forward(self, *batch: Any, **kwargs: Any) -> Any:
        if self._places is not None and self.arguments is not None and len(batch) == len(self.arguments):
            batch = tuple(batch[place] for place in self._places)
        with (
            inside(self.own_parameters, self.plate),
            pyro.settings.context(module_local_params=True),
            _Owned(self),
        ):
            return self.program(*batch, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("program", "inside", "own_parameters"):
                raise
            return getattr(self.__dict__.get("program", self._modules.get("program")), name)


class _Owned(Messenger):
    """Keeps the program's `pyro.param` statements to itself, and marks the plate of data."""

    def __init__(self, program: ProgramModule) -> None:
        super().__init__()
        self.plate = program.plate

    def _pyro_param(self, msg: Any) -> None:
        # handlers outside are not to see it: SVI and its like look for parameters of Pyro's own store
        msg["stop"] = True

    def _pyro_sample(self, msg: Any) -> None:
        if self.plate is not None:
            msg["cond_indep_stack"] = marked(msg["cond_indep_stack"], self.plate)


def own_parameters_of(*programs: Any) -> OwnParameters:
    """Where what these programs make belongs: as before where one of them comes from another pair."""
    known = [program.own_parameters for program in programs if isinstance(program, ProgramModule)]
    return known[0] if known else OwnParameters()


def joint_arguments(model: Any, guide: Any) -> tuple[str, ...] | None:
    """The names of all tensors that a pair's programs take, the model's first; None where they are unknown.

    Programs of one argument each take the same tensor, whatever the two call it; one that takes `*batch`
    takes what the other does.
    """
    for program in (model, guide):
        if isinstance(program, ProgramModule) and program.arguments is not None:
            return tuple(program.arguments)
    takes = [arguments_of(program) for program in (model, guide)]
    if takes[0] is None or takes[1] is None:
        return takes[0] or takes[1]
    if len(takes[0]) == len(takes[1]) == 1:
        return takes[0]
    return tuple(dict.fromkeys([*takes[0], *takes[1]]))


def needs_owning(program: Any) -> bool:
    """Whether it is no Module, or one that uses Pyro's global store."""
    if not isinstance(program, nn.Module):
        return True
    return any(isinstance(part, pyro.nn.PyroModule) for part in program.modules())


class Statements(Messenger):
    """The names of the parameters that a run makes by `pyro.param`, which a Module has no place for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def _pyro_param(self, msg: Any) -> None:
        self.names.append(msg["name"])
        msg["stop"] = True
        initial = msg["args"][1] if len(msg["args"]) > 1 else None
        # not Pyro's: a look must leave nothing in its store
        msg["value"] = initial() if callable(initial) and not isinstance(initial, Tensor) else initial


def described(program: Any) -> str:
    """What stands in the place of a program, and is none."""
    if inspect.isclass(program):
        return f"the class {program.__name__}: give an object of it, {program.__name__}(...)"
    return f"{type(program).__name__}: give a function or a torch.nn.Module that makes pyro.sample statements"
