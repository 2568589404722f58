"""Everything that a captured step reads and changes, found anew where it stands, in one fixed order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.capture.errors import CaptureError
from ppl_vae.capture.slots import Slots
from ppl_vae.capture.updates import UPDATES, New, initialise_state, options_of, state_of

MAX_TERMS = 64


class Inputs:
    """The tensors of a step but for its data: weights, buffers, KL weights, optimizer state, rates, sums.

    Args:
        objective: see `CapturedStep`.
        estimator: the one that is captured.
        optimizer: torch's.

    Raises:
        CaptureError: for an optimizer that has no captured update.

    Attributes:
        tensors: all of them, in the order that `unpack` knows.
        slots: those that stand in modules.
        sums: (MAX_TERMS,) float64, the sums of the logged terms.
        layout: what a graph takes for granted of the tensors.
    """

    def __init__(self, objective: nn.Module, estimator: Any, optimizer: torch.optim.Optimizer) -> None:
        self.objective: Any = objective
        self.estimator = estimator
        self.optimizer = optimizer
        self.sums: Tensor | None = None
        self.look()

    def look(self) -> None:
        """Find everything where it stands now."""
        objective, optimizer = self.objective, self.optimizer
        initialise_state(optimizer)
        roots = [objective, *objective.penalties.values()]
        self.modules = [part for root in roots for part in root.modules()]
        self.slots = Slots(roots, [self.estimator, objective.kl_weight])
        self._kl_weight, self._state = objective.kl_weight, optimizer.state
        self.place = {id(tensor): place for place, tensor in enumerate(self.slots.tensors)}
        self.groups = [
            [parameter for parameter in group["params"] if id(parameter) in self.place]
            for group in optimizer.param_groups
        ]
        self.parameters = [parameter for group in self.groups for parameter in group]
        if not self.parameters:
            raise CaptureError("the optimizer has none of the pair's parameters")
        self.device = self.parameters[0].device
        if self.device.type == "mps":
            raise CaptureError("device mps has no float64, in which the terms are summed")
        self._seen = [float(group["lr"]) for group in optimizer.param_groups]
        self._rates = [torch.tensor(rate, dtype=torch.float64, device=self.device) for rate in self._seen]
        if self.sums is None:
            self.sums = torch.zeros(MAX_TERMS, dtype=torch.float64, device=self.device)
        moving = [parameter for parameter in self.parameters if parameter.requires_grad]
        self._state_slots = list(state_of(optimizer, moving))
        self._steps = _steps_apart(optimizer, moving)
        state = [owner[name] for owner, name in self._state_slots]
        self.tensors = [*self.slots.tensors, *state, *self._rates, self.sums]
        looks = tuple((each.shape, each.stride(), each.dtype, each.device) for each in self.tensors)
        self.layout = (looks, self.slots.pattern, tuple(self._steps.values()))

    def follow(self) -> bool:
        """Take over what changed since the last step; whether something had to be looked for."""
        groups = self.optimizer.param_groups
        moved = (
            self._kl_weight is not self.objective.kl_weight
            or self._state is not self.optimizer.state
            or len(groups) != len(self._rates)
            or not self.slots.current()
        )
        if moved:
            self.look()
        for number, group in enumerate(groups):
            if (rate := float(group["lr"])) != self._seen[number]:
                self._seen[number] = rate
                self._rates[number].fill_(rate)
        return moved

    def guard(self) -> tuple[Any, ...]:
        """The Python values that a graph has inside: it is right for these alone."""
        numbers = (int, float, str, bool)
        return (
            tuple([(part.training, len(part._forward_hooks)) for part in self.modules]),
            tuple([parameter.requires_grad for parameter in self.parameters]),
            self.parameters[0].dtype,
            self.parameters[0].device,
            tuple([options_of(group) for group in self.optimizer.param_groups]),
            tuple([value for value in vars(self.estimator).values() if isinstance(value, numbers)]),
        )

    def unpack(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Stand, list[Tensor]]:
        """(slots' tensors, the rest but the data, the data) of what a traced step is called with."""
        tensors = list(tensors)
        held = [tensors.pop(0) for _ in self.slots.tensors]
        state = {(id(owner), name): tensors.pop(0) for owner, name in self._state_slots}
        rates = [tensors.pop(0) for _ in self._rates]
        return held, Stand(state, rates, tensors.pop(0)), tensors

    def updates(self, held: Sequence[Tensor], gradients: Mapping[int, Tensor], stand: Stand) -> New:
        """(old, new) of each parameter that has a gradient, by place, and of its state."""
        update = UPDATES[type(self.optimizer)]
        new: New = []
        shared: dict[int, Tensor] = {}
        for group, parameters, rate in zip(
            self.optimizer.param_groups, self.groups, stand.rates, strict=True
        ):
            for parameter in parameters:
                place = self.place[id(parameter)]
                if place not in gradients:
                    continue
                state = stand.state_of(self.optimizer.state[parameter])
                step = rate
                if (made := state.pop("step", None)) is not None:
                    new.append((made, made + 1))
                    step = shared.setdefault(self._steps[id(parameter)], made + 1)
                gradient = gradients[place].to(parameter.dtype)
                new += update(held[place], gradient, state, rate, step, group)
        return new


class Stand:
    """The optimizer's tensors and the sums, as a traced step has them."""

    def __init__(self, state: dict[tuple[int, str], Tensor], rates: list[Tensor], sums: Tensor) -> None:
        self._state = state
        self.rates = rates
        self.sums = sums

    def state_of(self, owner: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors of one parameter's state."""
        return {name: tensor for (where, name), tensor in self._state.items() if where == id(owner)}


def _steps_apart(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> dict[int, int]:
    """By parameter, the number of a class of parameters that have made equally many steps."""
    made = {
        id(parameter): float(optimizer.state[parameter]["step"])
        for parameter in parameters
        if "step" in optimizer.state[parameter]
    }
    classes = {count: number for number, count in enumerate(dict.fromkeys(made.values()))}
    return {parameter: classes[count] for parameter, count in made.items()}
