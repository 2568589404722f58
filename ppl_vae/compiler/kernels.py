"""Kernels: the steps of Adam and its kin in float32 on a CPU, in one loop of ours over all parameters.

A step of torch's own, fused, is slower by a twentieth of a whole training step of a small net. What is not
known here, the first step of an optimizer among it, is left to the optimizer's own step.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from ppl_vae.compiler import native

KINDS: dict[type, str] = {
    torch.optim.Adam: "exp_avg_sq",
    torch.optim.AdamW: "exp_avg_sq",
    torch.optim.Adamax: "exp_inf",
    ClippedAdam: "exp_avg_sq",
}
"""The optimizers that are known, with the second moment that each keeps beside `exp_avg`."""


class _Member(NamedTuple):
    """A parameter, its optimizer's state, how many numbers it has, and where they begin in memory.

    `places` of itself, its gradient and its two moments; `counter` of its steps, 0 where Python counts them.
    """

    parameter: Tensor
    state: dict[str, Any]
    size: int
    places: tuple[int, ...]
    counter: int


def move(optimizers: Iterable[Optimizer], gradients: Mapping[int, Tensor]) -> list[Optimizer]:
    """Make the steps of all optimizers whose step is known here now, parameters of equal options at once.

    Args:
        optimizers: torch's or Pyro's.
        gradients: by the `id` of parameters; others stay.

    Returns:
        The optimizers that were left alone.
    """
    everything = [(each, _members(each, gradients)) for each in optimizers]
    left = [optimizer for optimizer, found in everything if found is None]
    if not _apart([each for _, found in everything for members in found or () for each in members], left):
        return [optimizer for optimizer, _ in everything]
    together: dict[tuple[float, ...], list[_Member]] = {}
    for optimizer, found in everything:
        if found is None:
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
            four = parameter, gradient, state["exp_avg"], state[KINDS[kind]]
            step = state["step"]  # in Python, as Pyro counts, or a tensor
            counted = isinstance(step, int)
            if not all(map(_fits, four)) or not (counted or _fits(step)):
                return None
            places = tuple(map(Tensor.data_ptr, four))
            counter = 0 if counted else step.data_ptr()
            found[-1].append(_Member(parameter, state, parameter.numel(), places, counter))
    return found


def _apart(members: Sequence[_Member], left: Iterable[Optimizer]) -> bool:
    """Whether no number in memory is moved twice, by members or by optimizers that are left alone.

    Parameters may share memory, by their `data` or as views. Their optimizers' own steps follow one another;
    the threads of the loop do not.
    """
    if not members:
        return True
    others = [each for one in left for group in one.param_groups for each in group["params"]]
    memory = [each.untyped_storage() for each in others if each.layout is torch.strided]
    known = tuple([(each.size, each.places[0], *each.places[2:], each.counter) for each in members])
    return _disjoint(known, tuple([(each.data_ptr(), each.nbytes()) for each in memory]))


@functools.lru_cache(64)  # they lie in the same places at most steps
def _disjoint(members: tuple[tuple[int, ...], ...], others: tuple[tuple[int, int], ...]) -> bool:
    moved = [(place, 4 * size) for size, *places, _ in members for place in places]
    moved += [(counter, 4) for *_, counter in members if counter]
    spans = sorted((start, start + size) for start, size in (*moved, *others) if size)
    return all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


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
        1.0 if kind is ClippedAdam else 2.0 if kind is torch.optim.Adamax else 0.0,
    )


def _run(options: Sequence[float], members: Sequence[_Member]) -> None:
    parameters, states, sizes, places, counters = zip(*members, strict=True)
    own = torch.zeros(len(members), dtype=torch.float32) if 0 in counters else None
    steps = list(counters)
    for number, state in enumerate(states):
        if not steps[number] and own is not None:  # tensors are counted in the loop
            own[number] = state["step"]
            state["step"] += 1
            steps[number] = own.data_ptr() + 4 * number
    numbers = (*itertools.chain(*zip(*places, strict=True)), *steps)
    pointers = (ctypes.c_void_p * len(numbers))(*numbers)
    ends = (ctypes.c_int64 * len(members))(*itertools.accumulate(sizes))
    native.library().adam((ctypes.c_double * len(options))(*options), len(members), pointers, ends)
    torch.autograd.graph.increment_version(parameters)
