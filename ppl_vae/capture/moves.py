"""Moves: what some optimizers do to their parameters, as tensor operations on their state where it stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.optimizer_state import (
    counts_in_python,
    initialise_state,
    options_of,
    rate_name,
    state_of,
)
from ppl_vae.capture.updates import KINDS, Moving, New


@dataclass(frozen=True, eq=False)
class _Group:
    """One parameter group: its optimizer, its options, and those of its parameters that take part."""

    optimizer: Optimizer
    options: dict[str, Any]
    parameters: list[Tensor]

    def decay(self) -> float | None:
        """What the optimizer multiplies its own learning rate with at each step; None where it does not."""
        rate = self.options.get("lrd") if counts_in_python(self.optimizer) else None
        return None if rate == 1.0 else rate


@dataclass(frozen=True)
class Moved:
    """What one graph's step changes of numbers that optimizers keep in Python:
    groups and counters by place.
    """

    groups: tuple[int, ...] = ()
    counters: tuple[int, ...] = ()


class Moves:
    """The update of some parameters by their optimizers: one for all, or one for each as Pyro has it.

    Learning rates, and counts of steps that an optimizer keeps as Python numbers, stand for a graph in
    one tensor, that follows them. Where an optimizer changes them itself, the graph changes the tensor
    and `advance` the numbers.

    Args:
        optimizers: torch's or Pyro's, of a kind in `KINDS`.
        place: by `id`, the place of each parameter that takes part.
        together: whether all parameters move at every step, so that those that have moved equally often
            go on to, and share the numbers that depend on it.

    Raises:
        CaptureError: for an optimizer, or an option of it, that has no captured update.

    Attributes:
        parameters: that take part.
        tensors: of the optimizers' state, and the numbers last.
        layout: what a graph takes for granted.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], place: Mapping[int, int], together: bool = True
    ) -> None:
        for optimizer in optimizers:
            initialise_state(optimizer)
        self._place = place
        self._groups = [
            _Group(optimizer, group, [each for each in group["params"] if id(each) in place])
            for optimizer in optimizers
            for group in optimizer.param_groups
        ]
        self.parameters = [each for group in self._groups for each in group.parameters]
        if not self.parameters:
            raise CaptureError("the optimizer has none of the parameters")
        device = self.parameters[0].device
        self._states = [(each, each.state, each.param_groups, len(each.param_groups)) for each in optimizers]
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
        self._steps = self._steps_apart(together)
        self._names = [
            [name for name in group.options if name not in ("params", rate_name(group.options))]
            for group in self._groups
        ]
        self._options: list[list[Any]] = []
        self._guard: tuple[Any, ...] = ()
        self._numbers = torch.zeros(
            len(self._groups) + len(self._counted), dtype=torch.float64, device=device
        )
        self._seen: list[float] = []
        self.follow()
        self.tensors = [*state, self._numbers]
        self.layout = (len(self._groups), tuple(self._where_numbers()), tuple(self._steps.values()))

    def moved(self) -> bool:
        """Whether an optimizer's state stands elsewhere, as after `load_state_dict`."""
        return any(
            each.state is not state or each.param_groups is not groups or len(groups) != count
            for each, state, groups, count in self._states
        ) or any(owner.get(name) is not there for (_, name, owner), there in zip(self._where, self.tensors))

    def follow(self) -> None:
        """Take over the learning rates and counts of steps that have changed."""
        if (values := self._values()) != self._seen:
            self._seen = values
            self._numbers.copy_(torch.tensor(values, dtype=torch.float64))

    def guard(self) -> tuple[Any, ...]:
        """The groups' other options: numbers that a graph has inside."""
        options = [
            [group.options.get(name) for name in names]
            for group, names in zip(self._groups, self._names, strict=True)
        ]
        if options != self._options:
            self._options = options
            self._guard = tuple([options_of(group.options) for group in self._groups])
        return self._guard

    def move(
        self,
        weights: Mapping[int, Tensor],
        gradients: Mapping[int, Tensor],
        given: Sequence[Tensor],
        fine: Tensor | None = None,
        stepping: Collection[int] | None = None,
    ) -> Moved:
        """Move, in a graph, each parameter that has a gradient; what is to be done with Python's numbers.

        Args:
            weights: the parameters by place.
            gradients: by place.
            given: what stands for `tensors`.
            fine: whether tensors are to change, 0-d; numbers of Python's change in any case.
            stepping: the places whose optimizers make a step, with a gradient or without; None for all.
        """
        numbers = given[-1]
        new: New = []
        counters: list[int] = []
        stands: dict[int, dict[str, Tensor]] = {}
        for (owner, name, _), tensor in zip(self._where, given, strict=False):
            stands.setdefault(owner, {})[name] = tensor
        counter = {owner: number for number, (owner, _) in enumerate(self._counted)}
        shared: dict[int, Tensor] = {}
        skip = None if fine is None else (~fine).float()
        for index, group in enumerate(self._groups):
            moving: list[Moving] = []
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
                moving.append(Moving(weights[place], gradient, state, step))
            new += KINDS[type(group.optimizer)].move(moving, numbers[index], skip, group.options)
        for old, value in new:
            old.copy_(value if fine is None else torch.where(fine, value, old))
        decayed = [
            index
            for index, group in enumerate(self._groups)
            if group.decay() is not None
            and (stepping is None or any(self._place[id(each)] in stepping for each in group.parameters))
        ]
        moved = Moved(tuple(decayed), tuple(counters))
        self._advance(numbers, moved)
        return moved

    def kept(self) -> tuple[list[float], list[int]]:
        """The numbers in Python that steps change: learning rates that decay by themselves,
        and counts of steps.
        """
        rates = [group.options["lr"] for group in self._groups if group.decay() is not None]
        return rates, [state["step"] for _, state in self._counted]

    def put_back(self, numbers: tuple[list[float], list[int]]) -> None:
        """Set them to what they were."""
        decaying = [group for group in self._groups if group.decay() is not None]
        for group, rate in zip(decaying, numbers[0], strict=True):
            group.options["lr"] = rate
        for (_, state), count in zip(self._counted, numbers[1], strict=True):
            state["step"] = count
        self.follow()

    def advance(self, moved: Moved) -> None:
        """The numbers in Python after a step of a graph, which has changed the tensor alike."""
        for index in moved.groups:
            options = self._groups[index].options
            options["lr"] *= options["lrd"]
        for number in moved.counters:
            self._counted[number][1]["step"] += 1
        if moved.groups or moved.counters:
            self._seen = self._values()

    def _values(self) -> list[float]:
        rates = [float(group.options[rate_name(group.options)]) for group in self._groups]
        return [*rates, *[float(state["step"]) for _, state in self._counted]]

    def _advance(self, numbers: Tensor, moved: Moved) -> None:
        if moved.groups or moved.counters:
            factor, added = [1.0] * len(numbers), [0.0] * len(numbers)
            for index in moved.groups:
                factor[index] = self._groups[index].decay() or 0.0
            for number in moved.counters:
                added[len(self._groups) + number] = 1.0
            factors, addends = (torch.tensor(each, dtype=numbers.dtype) for each in (factor, added))
            numbers.copy_(numbers * factors.to(numbers.device) + addends.to(numbers.device))

    def _steps_apart(self, together: bool) -> dict[int, int]:
        """By parameter, the number of a class of parameters that have made equally many steps."""
        made: dict[int, float] = {parameter: float(state["step"]) for parameter, state in self._counted}
        for group in self._groups:
            for parameter in group.parameters:
                if "step" in (state := group.optimizer.state.get(parameter, {})):
                    made[id(parameter)] = float(state["step"])
        if not together:
            return {parameter: number for number, parameter in enumerate(made)}
        classes = {count: number for number, count in enumerate(dict.fromkeys(made.values()))}
        return {parameter: classes[count] for parameter, count in made.items()}

    def _where_numbers(self) -> list[tuple[int, str]]:
        return [(self._place[parameter], name) for parameter, name, _ in self._where]
