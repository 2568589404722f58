"""Kernels: the steps of Adam and its kin in float32 on a CPU, in one loop of ours over all parameters.

A step of torch's own, fused, is slower by a twentieth of a whole training step of a small net. What is not
known here, the first step of an optimizer among it, is left to the optimizer's own step.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from ppl_vae.capture.rewrites import native

KINDS: dict[type, str] = {
    torch.optim.Adam: "exp_avg_sq",
    torch.optim.AdamW: "exp_avg_sq",
    torch.optim.Adamax: "exp_inf",
    ClippedAdam: "exp_avg_sq",
}
"""The optimizers that are known, with the second moment that each keeps beside `exp_avg`."""


class _Member(NamedTuple):
    """A parameter, its gradient, its moments, and the state that they are of."""

    parameter: Tensor
    gradient: Tensor
    mean: Tensor
    second: Tensor
    state: dict[str, Any]


def move(optimizers: Iterable[Optimizer], gradients: Mapping[int, Tensor]) -> list[Optimizer]:
    """Make the steps of all optimizers whose step is known here now, parameters of equal options at once.

    Args:
        optimizers: torch's or Pyro's.
        gradients: by the `id` of parameters; others stay.

    Returns:
        The optimizers that were left alone.
    """
    together: dict[tuple[float, ...], list[_Member]] = {}
    left = []
    for optimizer in optimizers:
        found = _members(optimizer, gradients)
        if found is None:
            left.append(optimizer)
            continue
        for group, members in zip(optimizer.param_groups, found, strict=True):
            if "lrd" in group:  # Pyro's
                group["lr"] *= group["lrd"]
            if members:
                together.setdefault(_options(type(optimizer), group), []).extend(members)
    for options, members in together.items():
        _run(options, members)
    return left


def hooked(optimizer: Optimizer) -> bool:
    """Whether something is to be called at each of its steps, or of all optimizers'."""
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(
        own or torch_optimizer._global_optimizer_pre_hooks or torch_optimizer._global_optimizer_post_hooks
    )


def _members(optimizer: Optimizer, gradients: Mapping[int, Tensor]) -> list[list[_Member]] | None:
    """What a step moves, by group; None where the loop would not do all that the step does."""
    kind, own = type(optimizer), vars(optimizer).get("step")
    # torch's schedulers wrap the step, which is then the class's own
    plain = getattr(own, "__wrapped__", own) in (None, kind.step) and not hooked(optimizer)
    if kind not in KINDS or not plain or native.library() is None:
        return None
    found: list[list[_Member]] = []
    for group in optimizer.param_groups:
        if group.get("amsgrad") or group.get("centered_variance"):
            return None
        found.append([])
        for parameter in group["params"]:
            if (gradient := gradients.get(id(parameter))) is None:
                continue
            if not (state := optimizer.state.get(parameter)):  # torch makes it at its first step
                return None
            member = _Member(parameter, gradient, state["exp_avg"], state[KINDS[kind]], state)
            step = state["step"]  # in Python, as Pyro counts, or a tensor
            if not all(map(_fits, member[:4])) or not (isinstance(step, int) or _fits(step)):
                return None
            found[-1].append(member)
    return found


def _fits(tensor: Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.is_cpu and tensor.is_contiguous()


def _options(kind: type, group: Mapping[str, Any]) -> tuple[float, ...]:
    """The numbers in the order in which the loop takes them."""
    largest = group.get("clip_norm")
    return (
        *map(float, (group["lr"], *group["betas"], group["eps"], group["weight_decay"])),
        torch.inf if largest is None else float(largest),
        float(bool(group.get("decoupled_weight_decay"))),
        float(bool(group.get("maximize"))),
        2.0 if kind is ClippedAdam else 3.0 if kind is torch.optim.Adamax else 0.0,
    )


def _run(options: Sequence[float], members: Sequence[_Member]) -> None:
    parameters, gradients, means, seconds, states = zip(*members, strict=True)
    steps = []
    for state in states:
        step = state["step"]
        if isinstance(step, int):  # tensors are counted in the loop
            state["step"] += 1
            step = torch.tensor(float(step), dtype=torch.float32)
        steps.append(step)
    numbers = (*parameters, *gradients, *means, *seconds, *steps)
    pointers = (ctypes.c_void_p * len(numbers))(*map(Tensor.data_ptr, numbers))
    ends = (ctypes.c_int64 * len(members))(*itertools.accumulate(map(Tensor.numel, parameters)))
    native.library().adam((ctypes.c_double * len(options))(*options), len(members), pointers, ends)
    torch.autograd.graph.increment_version(parameters)
