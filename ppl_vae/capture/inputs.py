"""Everything that a captured step reads and changes, found anew where it stands, in one fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.capture.errors import CaptureError
from ppl_vae.capture.moves import Moves
from ppl_vae.capture.slots import Slots

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
        moves: the optimizer's update.
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
        objective = self.objective
        roots = [objective, *objective.penalties.values()]
        self.modules = [part for root in roots for part in root.modules()]
        self.slots = Slots(roots, [self.estimator, objective.kl_weight])
        self._kl_weight = objective.kl_weight
        self.place = {id(tensor): place for place, tensor in enumerate(self.slots.tensors)}
        self.moves = Moves([self.optimizer], self.place)
        self.parameters = self.moves.parameters
        self.device = self.parameters[0].device
        if self.device.type == "mps":
            raise CaptureError("device mps has no float64, in which the terms are summed")
        if self.sums is None:
            self.sums = torch.zeros(MAX_TERMS, dtype=torch.float64, device=self.device)
        self.tensors = [*self.slots.tensors, *self.moves.tensors, self.sums]
        looks = tuple((each.shape, each.stride(), each.dtype, each.device) for each in self.tensors)
        self.layout = (looks, self.slots.pattern, self.moves.layout)

    def follow(self) -> bool:
        """Take over what changed since the last step; whether something had to be looked for."""
        moved = (
            self._kl_weight is not self.objective.kl_weight or self.moves.moved() or not self.slots.current()
        )
        if moved:
            self.look()
        self.moves.follow()
        return moved

    def guard(self) -> tuple[Any, ...]:
        """The Python values that a graph has inside: it is right for these alone."""
        numbers = (int, float, str, bool)
        return (
            tuple([(part.training, len(part._forward_hooks)) for part in self.modules]),
            tuple([parameter.requires_grad for parameter in self.parameters]),
            self.parameters[0].dtype,
            self.parameters[0].device,
            self.moves.guard(),
            tuple([value for value in vars(self.estimator).values() if isinstance(value, numbers)]),
        )

    def unpack(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor, list[Tensor]]:
        """(slots' tensors, the optimizer's, the sums, the data) of what a traced step is called with."""
        held, state = len(self.slots.tensors), len(self.slots.tensors) + len(self.moves.tensors)
        return list(tensors[:held]), list(tensors[held:state]), tensors[state], list(tensors[state + 1 :])
