"""Kernels: fused updates of optimizers, torch's own but for Adam in float32 on a CPU, run on the gradients
that a graph gives out.

They are no part of the graph: Inductor would take as long for a loop over each parameter as for the rest of
a step, and these loops are compiled already, for all parameters at once.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.capture.rewrites import native

Options = Mapping[str, Any]


class Together(NamedTuple):
    """Parameters with their gradients and their optimizer's state, by name, which move at once."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    state: Mapping[str, list[Tensor]]


Kernel = Callable[[Together, float, Options, Tensor | None], None]
"""Moves parameters, given their learning rate, their group's options, and on a GPU a number (0-d, float32)
that is 1 where all is to stay as it is.
"""


def adam(moving: Together, rate: float, options: Options, unfit: Tensor | None) -> None:
    """Adam, or AdamW where the decay of weights is decoupled."""
    numbers = itertools.chain(moving.parameters, moving.gradients, *moving.state.values())
    if is_plain(numbers, options):
        own_adam(moving, rate, options, unfit)
        return
    run = torch._fused_adamw_ if options.get("decoupled_weight_decay") else torch._fused_adam_
    beta1, beta2 = options["betas"]
    state = moving.state
    torch._foreach_add_(state["step"], 1)
    run(
        moving.parameters, moving.gradients, state["exp_avg"], state["exp_avg_sq"],
        state.get("max_exp_avg_sq", []), state["step"], lr=rate, beta1=float(beta1), beta2=float(beta2),
        weight_decay=options["weight_decay"], eps=options["eps"], amsgrad=options["amsgrad"],
        maximize=options["maximize"], grad_scale=None, found_inf=unfit,
    )  # fmt: skip
    if unfit is not None:
        torch._foreach_sub_(state["step"], [unfit] * len(state["step"]))


def is_plain(numbers: Iterable[Tensor], options: Options) -> bool:
    """Whether all that is to move is float32 on the CPU, for a kind of Adam that `own_adam` knows."""
    special = options.get("amsgrad") or options.get("centered_variance")
    plain = all([each.dtype is torch.float32 and each.is_cpu for each in numbers])
    return not special and plain and native.library() is not None


class _Adam(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "eps", "decay", "largest")),
        *((name, ctypes.c_int32) for name in ("decoupled", "maximize", "kind")),
    )


def own_adam(moving: Together, rate: float, options: Options, unfit: Tensor | None) -> None:
    """Adam, AdamW, Adamax and Pyro's ClippedAdam in a loop of ours: half of torch's time on one thread."""
    state, count, largest = moving.state, len(moving.parameters), options.get("clip_norm")
    kind = 3 if "exp_inf" in state else 0 if largest is None else 2
    second = state["exp_inf" if kind == 3 else "exp_avg_sq"]
    numbers = [*moving.parameters, *moving.gradients, *state["exp_avg"], *second, *state["step"]]
    pointers = (ctypes.c_void_p * len(numbers))(*map(Tensor.data_ptr, numbers))
    ends = (ctypes.c_int64 * count)(*itertools.accumulate(map(Tensor.numel, moving.parameters)))
    chosen = _Adam(
        rate, *map(float, (*options["betas"], options["eps"], options["weight_decay"])),
        torch.inf if largest is None else float(largest), bool(options.get("decoupled_weight_decay")),
        bool(options.get("maximize")), kind,
    )  # fmt: skip
    native.library().adam(ctypes.byref(chosen), count, pointers, ends)
    torch.autograd.graph.increment_version(moving.parameters)


def sgd(moving: Together, rate: float, options: Options, unfit: Tensor | None) -> None:
    """Stochastic gradient descent with momentum; its memory is there from the first step on, at zero."""
    torch._fused_sgd_(
        moving.parameters, moving.gradients, moving.state.get("momentum_buffer", []), lr=rate,
        weight_decay=options["weight_decay"], momentum=options["momentum"], dampening=options["dampening"],
        nesterov=options["nesterov"], maximize=options["maximize"], is_first_step=False, grad_scale=None,
        found_inf=unfit,
    )  # fmt: skip
