"""Moves: what some optimizers do to their parameters, as tensor operations on their state where it stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.groups import Group, calls_of, counts_of
from ppl_vae.capture.kernels import Call, laid_out
from ppl_vae.capture.optimizer_state import (
    Standing,
    counts_in_python,
    initialise_state,
    options_of,
    rate_name,
    state_of,
)
from ppl_vae.capture.python_numbers import Changed, PythonNumbers
from ppl_vae.capture.slots import columns, stand
from ppl_vae.capture.updates import KINDS, Moving, New


class Moved(NamedTuple):
    """What is left to do after one graph's step.

    Attributes:
        numbers: that change in Python.
        kernels: the places of the parameters that torch's own kernels move.
    """

    numbers: Changed = Changed()
    kernels: tuple[int, ...] = ()


class Moves:
    """The update of some parameters by their optimizers: one for all, or one for each as Pyro has it.

    It is part of a graph, or, where torch has a kernel of its own for it, what follows a graph, on the
    gradients that it gives out.

    Args:
        optimizers: torch's or Pyro's, of a kind in `KINDS`.
        place: by `id`, the place of each parameter that takes part.
        together: whether all parameters move at every step, so that those that have moved equally often
            go on to, and share the numbers that depend on it.

    Raises:
        CaptureError: for an optimizer, or an option of it, that has no captured update.

    Attributes:
        parameters: that take part.
        numbers: of the optimizers' that stand in Python.
        tensors: of the optimizers' state, and those of `numbers` last.
        layout: what a graph takes for granted.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], place: Mapping[int, int], together: bool = True
    ) -> None:
        for optimizer in optimizers:
            initialise_state(optimizer)
        self._place = place
        self._groups = [
            Group(optimizer, group, [each for each in group["params"] if id(each) in place])
            for optimizer in optimizers
            for group in optimizer.param_groups
        ]
        self.parameters = [each for group in self._groups for each in group.parameters]
        if not self.parameters:
            raise CaptureError("the optimizer has none of the parameters")
        device = self.parameters[0].device
        self._where: list[tuple[int, str, dict[str, Any]]] = []
        self._counted: list[tuple[int, dict[str, Any]]] = []
        state: list[Tensor] = []
        for optimizer in optimizers:
            moving = [
                each
                for group in self._groups
                if group.optimizer is optimizer
                for each in group.parameters
                if each.requires_grad
            ]
            for parameter, owner, name in state_of(optimizer, moving):
                self._where.append((id(parameter), name, owner))
                state.append(owner[name])
            if counts_in_python(optimizer):
                self._counted += [(id(each), optimizer.state[each]) for each in moving]
        self._steps = counts_of(self._groups, self._counted, together)
        self._names = [
            [name for name in group.options if name not in ("params", rate_name(group.options))]
            for group in self._groups
        ]
        self._options: list[list[Any]] = []
        self._guard: tuple[Any, ...] = ()
        self._calls: dict[tuple[int, ...], list[Call]] = {}
        self.numbers = PythonNumbers(self._groups, [each for _, each in self._counted], device)
        self.tensors = [*state, self.numbers.tensor]
        where = tuple([(place[parameter], name) for parameter, name, _ in self._where])
        groups = tuple([tuple([place[id(each)] for each in group.parameters]) for group in self._groups])
        self.layout = (groups, where, tuple(self._steps.values()))
        self._columns = columns(
            [(owner, name, there) for (_, name, owner), there in zip(self._where, state, strict=True)]
        )
        self._standing = [Standing(each) for each in optimizers]

    def moved(self) -> bool:
        """Whether an optimizer is no longer what it was, as after `load_state_dict`; see `Standing`."""
        return not (all([each.holds() for each in self._standing]) and stand(*self._columns))

    def follow(self) -> None:
        """Take over the learning rates and counts of steps that have changed."""
        if self.numbers.follow() and len(self._groups) > 1:
            self._calls.clear()  # one kernel has one learning rate

    def guard(self) -> tuple[Any, ...]:
        """The groups' other options: numbers that a graph has inside."""
        options = [
            [group.options.get(name) for name in names]
            for group, names in zip(self._groups, self._names, strict=True)
        ]
        if options != self._options:
            self._options = options
            self._calls.clear()
            self._guard = tuple([options_of(group.options) for group in self._groups])
        return self._guard

    def move(
        self,
        weights: Mapping[int, Tensor],
        gradients: Mapping[int, Tensor],
        given: Sequence[Tensor],
        fine: Tensor | None = None,
        stepping: Collection[int] | None = None,
    ) -> tuple[Moved, list[Tensor]]:
        """Move, in a graph, each parameter that has a gradient; what is left to do, and the tensors for it.

        Args:
            weights: the parameters by place.
            gradients: by place.
            given: what stands for `tensors`.
            fine: whether tensors are to change, 0-d; numbers of Python's change in any case.
            stepping: the places whose optimizers make a step, with a gradient or without; None for all.

        Returns:
            What `after` takes, with the tensors, which the graph is to give out.
        """
        numbers = given[-1]
        new: New = []
        counters: list[int] = []
        stands: dict[int, dict[str, Tensor]] = {}
        for (owner, name, _), tensor in zip(self._where, given, strict=False):
            stands.setdefault(owner, {})[name] = tensor
        counter = {owner: number for number, (owner, _) in enumerate(self._counted)}
        shared: dict[int, Tensor] = {}
        given_out: dict[int, Tensor] = {}
        for index, group in enumerate(self._groups):
            for parameter in group.parameters:
                if (place := self._place[id(parameter)]) not in gradients:
                    continue
                state, step = dict(stands.get(id(parameter), {})), numbers[index]
                if (made := state.pop("step", None)) is not None:
                    step = shared.setdefault(self._steps[id(parameter)], made + 1)
                    new.append((made, made + 1))
                elif id(parameter) in counter:
                    counters.append(counter[id(parameter)])
                    count = numbers[len(self._groups) + counters[-1]] + 1
                    step = shared.setdefault(self._steps[id(parameter)], count)
                gradient = gradients[place].to(parameter.dtype)
                if (formula := KINDS[type(group.optimizer)].formula) is None:
                    given_out[place] = laid_out(gradient, parameter)
                else:
                    moving = Moving(weights[place], gradient, state, step)
                    new += formula(moving, numbers[index], group.options)
        for old, value in new:
            old.copy_(value if fine is None else torch.where(fine, value, old))
        decayed = [
            index
            for index, group in enumerate(self._groups)
            if group.decay() is not None
            and (stepping is None or any(self._place[id(each)] in stepping for each in group.parameters))
        ]
        moved = Moved(Changed(tuple(decayed), tuple(counters)), tuple(given_out))
        self.numbers.change(numbers, moved.numbers)
        return moved, [*given_out.values(), *([(~fine).float()] if given_out and fine is not None else [])]

    def after(self, moved: Moved, given_out: Sequence[Tensor]) -> None:
        """Run torch's kernels on what a graph gave out."""
        if places := moved.kernels:
            if (calls := self._calls.get(places)) is None:
                calls = self._calls[places] = calls_of(self._groups, self._place, places)
            unfit = given_out[len(places)] if len(given_out) > len(places) else None
            for call in calls:
                call(given_out, unfit)
