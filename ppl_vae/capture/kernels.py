"""Kernels: fused updates of optimizers, torch's own but for Adam in float32 on a CPU, run on the gradients
that a graph gives out.

They are no part of the graph: Inductor would take as long for a loop over each parameter as for the rest of
a step, and these loops are compiled already, for all parameters at once.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.capture.rewrites import native


class Together(NamedTuple):
    """Parameters with their gradients and their optimizer's state, by name, which move at once."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    state: Mapping[str, list[Tensor]]


Kernel = Callable[[Together, float, Mapping[str, Any], Tensor | None], None]
"""Moves parameters, given their learning rate, their group's options, and a number (0-d, float32) that is 1
where all is to stay as it is. Steps are counted before that.
"""


def adam(moving: Together, rate: float, options: Mapping[str, Any], unfit: Tensor | None) -> None:
    """Adam, or AdamW where the decay of weights is decoupled."""
    if _plain(moving, options) and (compiled := native.library()) is not None:
        _own_adam(compiled, moving, rate, options, unfit)
        return
    run = torch._fused_adamw_ if options.get("decoupled_weight_decay") else torch._fused_adam_
    beta1, beta2 = options["betas"]
    state = moving.state
    run(
        moving.parameters, moving.gradients, state["exp_avg"], state["exp_avg_sq"],
        state.get("max_exp_avg_sq", []), state["step"], lr=rate, beta1=float(beta1), beta2=float(beta2),
        weight_decay=options["weight_decay"], eps=options["eps"], amsgrad=options["amsgrad"],
        maximize=options["maximize"], grad_scale=None, found_inf=unfit,
    )  # fmt: skip


def _plain(moving: Together, options: Mapping[str, Any]) -> bool:
    """Whether all that is to move is float32 on the CPU, without `amsgrad`."""
    numbers = itertools.chain(moving.parameters, moving.gradients, *moving.state.values())
    return (
        not options["amsgrad"]
        and moving.parameters[0].device.type == "cpu"
        and all([each.dtype is torch.float32 for each in numbers])
    )


class _Adam(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "eps", "decay")),
        *((name, ctypes.c_int32) for name in ("decoupled", "maximize")),
    )


def _own_adam(
    compiled: Any, moving: Together, rate: float, options: Mapping[str, Any], unfit: Tensor | None
) -> None:
    """The same in a loop of ours, which takes half the time of torch's on one thread."""
    state, count = moving.state, len(moving.parameters)
    numbers = [*moving.parameters, *moving.gradients, *state["exp_avg"], *state["exp_avg_sq"], *state["step"]]
    pointers = (ctypes.c_void_p * len(numbers))(*map(Tensor.data_ptr, numbers))
    ends = (ctypes.c_int64 * count)(*itertools.accumulate(map(Tensor.numel, moving.parameters)))
    chosen = _Adam(
        rate, *map(float, (*options["betas"], options["eps"], options["weight_decay"])),
        bool(options.get("decoupled_weight_decay")), bool(options["maximize"]),
    )  # fmt: skip
    compiled.adam(ctypes.byref(chosen), count, pointers, ends, None if unfit is None else unfit.data_ptr())
    torch.autograd.graph.increment_version(moving.parameters)


def sgd(moving: Together, rate: float, options: Mapping[str, Any], unfit: Tensor | None) -> None:
    """Stochastic gradient descent with momentum; its memory is there from the first step on, at zero."""
    torch._fused_sgd_(
        moving.parameters, moving.gradients, moving.state.get("momentum_buffer", []), lr=rate,
        weight_decay=options["weight_decay"], momentum=options["momentum"], dampening=options["dampening"],
        nesterov=options["nesterov"], maximize=options["maximize"], is_first_step=False, grad_scale=None,
        found_inf=unfit,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel on all parameters that it can move at once.

    Attributes:
        kernel: what moves them.
        options: of their group, or of groups that have the same; the learning rate is read at each call.
        rate: the name of that option.
        parameters, state: as they stand.
        places: of their gradients among those that the graph gives out.
    """

    kernel: Kernel
    options: Mapping[str, Any]
    rate: str
    parameters: list[Tensor]
    state: dict[str, list[Tensor]]
    places: list[int]

    def __call__(self, gradients: Sequence[Tensor], unfit: Tensor | None) -> None:
        """Move the parameters."""
        parameters, state = self._packed() if self.scattered else (self.parameters, self.state)
        given = [gradients[place] for place in self.places]
        if [each.stride() for each in given] != [each.stride() for each in parameters]:
            given = [laid_out(*both) for both in zip(given, parameters, strict=True)]
        rate = float(self.options[self.rate])
        self.kernel(Together(parameters, given, state), rate, self.options, unfit)
        if state is not self.state:
            now = [*parameters, *itertools.chain(*state.values())]
            for old, new in zip([*self.parameters, *itertools.chain(*self.state.values())], now, strict=True):
                if new is not old:
                    old.copy_(new)

    @functools.cached_property
    def scattered(self) -> bool:
        """Whether the numbers of a parameter have gaps between them, or others are its state's in memory."""
        beside = [each for name, each in self.state.items() if name != "step"]
        return any(
            torch.empty_like(one).stride() != one.stride()
            or any(one.stride() != two.stride() for two in more)
            for one, *more in zip(self.parameters, *beside, strict=True)
        )

    def _packed(self) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        parameters = [torch.empty_like(each).copy_(each) for each in self.parameters]
        return parameters, {
            name: each if name == "step" else [laid_out(*both) for both in zip(each, parameters, strict=True)]
            for name, each in self.state.items()
        }


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor, or a copy, with its numbers in memory as another has them: all that a kernel knows of."""
    if tensor.stride() == like.stride():
        return tensor
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
