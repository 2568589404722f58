"""Fused: which parameters a kernel moves at once, and where they and their optimizers' state stand."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from ppl_vae.capture import kernels
from ppl_vae.capture.kernels import Kernel, Together
from ppl_vae.capture.watched import Place, columns, stand

_ADAM = {"exp_avg": "", "exp_avg_sq": ""}
KINDS: dict[type, tuple[Kernel, dict[str, str]]] = {
    torch.optim.Adam: (kernels.adam, _ADAM | {"max_exp_avg_sq": "amsgrad"}),
    torch.optim.AdamW: (kernels.adam, _ADAM | {"max_exp_avg_sq": "amsgrad"}),
    torch.optim.SGD: (kernels.sgd, {"momentum_buffer": "momentum"}),
    torch.optim.Adamax: (kernels.own_adam, {"exp_avg": "", "exp_inf": ""}),
    ClippedAdam: (kernels.own_adam, _ADAM),
}
"""Optimizers that have a kernel, with the state that they keep for each parameter besides the count of steps,
each part with the option without which it does not.
"""
_OWN = (torch.optim.Adamax, ClippedAdam)
"""Those whose kernel is ours alone, for float32 on a CPU."""


class _Member(NamedTuple):
    """A parameter, its group's options, its state, and the place of its gradient."""

    parameter: Tensor
    options: dict[str, Any]
    state: dict[str, Any]
    place: int


class Call:
    """One kernel on all parameters that it can move at once.

    Args:
        kernel: what moves them.
        members: of groups that have the same options; these are read at each call.
        names: of their tensors of state.
        places: (owner, key, value) of all that was found and may be replaced.
    """

    def __init__(
        self, kernel: Kernel, members: Sequence[_Member], names: Sequence[str], places: Sequence[Place]
    ) -> None:
        self._kernel, self._columns = kernel, columns(places)
        self.parameters = [each.parameter for each in members]
        self._gradients = [each.place for each in members]
        self._groups = list({id(each.options): each.options for each in members}.values())
        self._states = [each.state for each in members]
        self._counts = isinstance(self._states[0].get("step"), int)  # in Python, as Pyro does
        self._state = {name: [each[name] for each in self._states] for name in names}
        self._strides = [torch.empty_like(each).stride() for each in self.parameters]

    def holds(self) -> bool:
        """Whether all stands where it did, with one learning rate for all."""
        rate, same = self._groups[0]["lr"], stand(*self._columns)
        return same and all([group["lr"] == rate for group in self._groups])

    def __call__(self, gradients: Sequence[Tensor], unfit: Tensor | None) -> None:
        """Move the parameters."""
        parameters, state = self._packed() if self._scattered else (self.parameters, self._state)
        if self._counts:
            counts = torch.tensor([float(each["step"]) for each in self._states], dtype=torch.float32)
            state = state | {"step": list(counts.unbind())}
            for each in self._states:
                each["step"] += 1
        given = [gradients[place] for place in self._gradients]
        if [each.stride() for each in given] != self._strides:
            given = [laid_out(*both) for both in zip(given, parameters, strict=True)]
        options = self._groups[0]
        self._kernel(Together(parameters, given, state), float(options["lr"]), options, unfit)
        if self._scattered:
            there, now = ([*some, *itertools.chain(*more.values())] for some, more in (
                (self.parameters, self._state), (parameters, {name: state[name] for name in self._state})
            ))  # fmt: skip
            for old, new in zip(there, now, strict=True):
                if new is not old:
                    old.copy_(new)

    @functools.cached_property
    def _scattered(self) -> bool:
        """Whether the numbers of a parameter have gaps between them, or others are its state's in memory."""
        beside = [each for name, each in self._state.items() if name != "step"]
        there = zip(self._strides, self.parameters, *beside, strict=True)
        return any(each.stride() != dense for dense, *several in there for each in several)

    def _packed(self) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        parameters = [torch.empty_like(each).copy_(each) for each in self.parameters]
        return parameters, {
            name: each if name == "step" else [laid_out(*both) for both in zip(each, parameters, strict=True)]
            for name, each in self._state.items()
        }


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor, or a copy, with its numbers in memory as another has them: all that a kernel knows of."""
    if tensor.stride() == like.stride():
        return tensor
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def calls_of(optimizers: Sequence[Optimizer], moving: Mapping[int, int]) -> list[Call]:
    """The kernels that move some parameters, as few as can be.

    Args:
        optimizers: of kinds that have one; state that they make at their first step is made here.
        moving: of each parameter, by `id`, the place of its gradient.
    """
    found: dict[tuple[Any, ...], tuple[list[_Member], list[Place]]] = {}
    for optimizer in optimizers:
        kernel, _ = KINDS[type(optimizer)]
        for group in optimizer.param_groups:
            options = [repr(each) for name, each in group.items() if name not in ("params", "initial_lr")]
            for parameter in (each for each in group["params"] if id(each) in moving):
                state = optimizer.state[parameter]
                names = _initialise(type(optimizer), group, parameter, state)
                key = kernel, tuple(options), parameter.dtype, parameter.device, names
                members, places = found.setdefault(key, ([], []))
                members.append(_Member(parameter, group, state, moving[id(parameter)]))
                places.append((optimizer.state, parameter, state))
                places += [(state, name, state[name]) for name in names]
    whole = [(vars(each), "state", each.state) for each in optimizers]
    return [Call(key[0], members, key[-1], [*whole, *places]) for key, (members, places) in found.items()]


def _initialise(
    kind: type, group: Mapping[str, Any], parameter: Tensor, state: dict[str, Any]
) -> tuple[str, ...]:
    """Give a parameter the state that its optimizer would at its first step; the names of the tensors."""
    names = tuple([name for name, option in KINDS[kind][1].items() if not option or group[option]])
    for name in names:
        if state.get(name) is None:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    if kind is ClippedAdam:
        state.setdefault("step", 0)
    if kind in (ClippedAdam, torch.optim.SGD):
        return names
    if state.get("step") is None:
        wide = torch.get_default_dtype() == torch.float64 and not group.get("fused") and kind not in _OWN
        state["step"] = torch.zeros((), dtype=torch.float64 if wide else torch.float32)
    if not parameter.is_cpu:
        state["step"] = state["step"].to(parameter.device, torch.float32)  # where a kernel looks for it
    return "step", *names


def has_kernel(optimizer: Optimizer) -> bool:
    """Whether a kernel does all that the optimizer's step would do now."""
    kind, own = type(optimizer), vars(optimizer).get("step")
    # torch's schedulers wrap the step, which is then the class's own
    plain = kind in KINDS and not hooked(optimizer) and getattr(own, "__wrapped__", own) in (None, kind.step)
    return plain and all(_fits(optimizer, group) for group in optimizer.param_groups)


def hooked(optimizer: Optimizer) -> bool:
    """Whether something is to be called at each of its steps, or of all optimizers'."""
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(
        own or torch_optimizer._global_optimizer_pre_hooks or torch_optimizer._global_optimizer_post_hooks
    )


def _fits(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    kind, parameters = type(optimizer), group["params"]
    if any(each.is_complex() for each in parameters):
        return False
    if kind is torch.optim.SGD:
        return not (group["momentum"] and group["dampening"])  # torch leaves it out at the first step only
    state = [each for one in parameters for each in optimizer.state.get(one, {}).values()]
    tensors = [each for each in state if isinstance(each, Tensor)]
    return kind not in _OWN or kernels.is_plain([*parameters, *tensors], group)
