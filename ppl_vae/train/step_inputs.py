"""Everything that a captured step of `fit` reads and changes, found anew, in one fixed order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.capture.capture_error import CaptureError, as_refusals
from ppl_vae.capture.moves import Moves
from ppl_vae.capture.numbers import of_function
from ppl_vae.capture.watched import Watched

MAX_TERMS = 64
_hooks_of = attrgetter("_backward_hooks")


class Inputs:
    """The tensors of a step but for its data: weights, buffers, KL weights, sums.

    Args:
        objective: see `CapturedStep`.
        estimator: the one that is captured.
        optimizer: torch's.

    Raises:
        CaptureError: for an optimizer that has no captured update.

    Attributes:
        watched: the tensors and numbers that stand in modules and in the estimator.
        moves: the optimizer's update.
        sums: (MAX_TERMS,) float64, the sums of the logged terms.
        layout: what a graph takes for granted of the tensors.
    """

    def __init__(self, objective: nn.Module, estimator: Any, optimizer: torch.optim.Optimizer) -> None:
        self.objective: Any = objective
        self.estimator = estimator
        self.optimizer = optimizer
        device = next(objective.parameters()).device
        self.sums = torch.zeros(
            MAX_TERMS, dtype=torch.float64 if device.type != "mps" else None, device=device
        )
        self.look()

    @as_refusals()
    def look(self) -> None:
        """Find everything where it stands now."""
        objective = self.objective
        roots = [objective, *objective.penalties.values()]
        self.watched = Watched(roots, [self.estimator, objective.kl_weight])
        self._kl_weight = objective.kl_weight
        self.moves = Moves([self.optimizer], self.watched.number)
        self.parameters = self.moves.parameters
        self.device = self.parameters[0].device
        if self.device.type == "mps":
            raise CaptureError("device mps has no float64, in which the terms are summed")
        places = tuple([self.watched.number[id(each)] for each in self.parameters])
        self.layout = (self.watched.layout, places)

    def follow(self) -> bool:
        """Take over what changed since the last step; whether something had to be looked for."""
        moved = (
            self._kl_weight is not self.objective.kl_weight
            or self.moves.moved()
            or not self.watched.current()
        )
        if moved:
            self.look()
        return moved

    def guard(self) -> tuple[Any, ...]:
        """The Python values that a graph has inside: it is right for these alone."""
        hooks = map(_hooks_of, self.parameters)
        return (
            self.watched.values(),
            tuple([parameter.requires_grad for parameter in self.parameters]),
            tuple([tuple(map(of_function, each.values())) if each else () for each in hooks]),
            self.parameters[0].dtype,
            self.parameters[0].device,
        )


def gradients_of(loss: Tensor, leaves: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The gradient of each leaf that takes part."""
    if not loss.requires_grad:
        return {}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {leaf: gradient for leaf, gradient in zip(leaves, found, strict=True) if gradient is not None}


def padded(terms: Sequence[Tensor], like: Tensor) -> Tensor:
    """Terms side by side, with zeros behind them, as many as `like` has."""
    now = torch.stack([term.to(like.dtype) for term in terms])
    return nn.functional.pad(now, (0, len(like) - len(terms)))
