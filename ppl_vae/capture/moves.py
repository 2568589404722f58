"""Moves: what optimizers do to their parameters after a graph, on the gradients that it gives out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.compiler import kernels

Kept = list[tuple[list[float], list[dict[str, Any]]]]


class Moves:
    """The update of some parameters by their optimizers: one for all, or one for each as Pyro has it.

    No graph knows of it, and nothing is remembered from step to step. Each optimizer makes its own step, as
    it is written, unless a kernel does the same faster.

    Args:
        optimizers: torch's or Pyro's.
        number: by `id`, the number of each parameter that takes part.

    Raises:
        CaptureError: for an optimizer that runs the program itself, and hooks that would not be called.

    Attributes:
        parameters: that take part.
    """

    def __init__(self, optimizers: Sequence[Optimizer], number: Mapping[int, int]) -> None:
        self._optimizers = list(optimizers)
        self._ids = self._now()
        self.parameters = [each for each in self._all() if id(each) in number]
        if not self.parameters:
            raise CaptureError("the optimizer has none of the parameters; load_state_dict(assign=True)?")
        self._at = {number[id(each)]: each for each in self.parameters}
        for optimizer in optimizers:
            _check(optimizer)

    def moved(self) -> bool:
        """Whether the optimizers have other parameters now."""
        return self._now() != self._ids

    def after(
        self,
        numbers: Sequence[int],
        gradients: Sequence[Tensor],
        unfit: Tensor | None = None,
        stepping: Collection[int] | None = None,
    ) -> None:
        """Move parameters by the gradients that a graph gave out.

        Args:
            numbers: of the parameters.
            gradients: of each.
            unfit: 1 where all is to stay as it is, 0-d and float32.
            stepping: the numbers of those whose optimizers make a step, with a gradient or without; None for
                all.
        """
        if unfit is not None and unfit.is_cpu:
            if unfit.item():
                return
            unfit = None
        given = {id(self._at[each]): gradient for each, gradient in zip(numbers, gradients, strict=True)}
        making = self._optimizers
        if stepping is not None:
            steps = {id(self._at[each]) for each in stepping}
            making = [each for each in making if not steps.isdisjoint(map(id, _parameters(each)))]
        for optimizer in kernels.move(making, given):
            _step_as_written(optimizer, given, unfit)

    def kept(self) -> Kept:
        """What steps change of the optimizers: learning rates that they decay themselves, and their state."""
        return [
            (
                [group["lr"] for group in optimizer.param_groups if "lrd" in group],
                [copy.deepcopy(optimizer.state.get(each, {})) for each in _parameters(optimizer)],
            )
            for optimizer in self._optimizers
        ]

    def put_back(self, kept: Kept) -> None:
        """Set it to what it was."""
        for optimizer, (rates, states) in zip(self._optimizers, kept, strict=True):
            decaying = [group for group in optimizer.param_groups if "lrd" in group]
            for group, rate in zip(decaying, rates, strict=True):
                group["lr"] = rate
            for parameter, state in zip(_parameters(optimizer), states, strict=True):
                optimizer.state[parameter] = copy.deepcopy(state)

    def _all(self) -> list[Tensor]:
        return [each for optimizer in self._optimizers for each in _parameters(optimizer)]

    def _now(self) -> list[int]:
        return [*map(id, self._all())]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [each for group in optimizer.param_groups for each in group["params"]]


def _step_as_written(optimizer: Any, gradients: Mapping[int, Tensor], unfit: Tensor | None = None) -> None:
    """Its own step on these gradients, by the `id` of parameters, whose `grad` is as before afterwards.

    Where it is fused, a GPU finds out for itself whether it is `unfit`, and nothing waits for it. torch's
    fused steps take it for granted that numbers fill their memory; where they do not, the step is not fused.
    """
    parameters = _parameters(optimizer)
    fused = [each for each in optimizer.param_groups if each.get("fused")]
    scattered = [each for each in fused if not all([one.is_contiguous() for one in each["params"]])]
    asks = unfit is not None and len(fused) == len(optimizer.param_groups) and not scattered
    if unfit is not None and (not asks or kernels.hooked(optimizer)) and unfit.item():
        return
    before = [each.grad for each in parameters]
    try:
        if asks:
            optimizer.found_inf = unfit  # as torch.amp.GradScaler tells it
        for group in scattered:
            group["fused"] = False
        for each in parameters:
            each.grad = gradients.get(id(each))
        optimizer.step()
    finally:
        for each, gradient in zip(parameters, before, strict=True):
            each.grad = gradient
        for group in scattered:
            group["fused"] = True
        if asks:
            del optimizer.found_inf


def _check(optimizer: Optimizer) -> None:
    name = f"optimizer {type(optimizer).__name__}"
    _, *others = inspect.signature(type(optimizer).step).parameters.values()
    needed = [
        each.name for each in others if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    if needed:
        raise CaptureError(
            f"{name} runs the program itself, by step({', '.join(needed)}), in no captured step"
        )
    lacking = ["differentiable"] if any(each.get("differentiable") for each in optimizer.param_groups) else []
    if any(each._post_accumulate_grad_hooks for each in _parameters(optimizer)):
        lacking.append("hooks after a gradient is accumulated, register_post_accumulate_grad_hook,")
    if lacking:
        raise CaptureError(f"{name} with {', '.join(lacking)} has no captured update")
