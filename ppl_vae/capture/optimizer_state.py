"""What optimizers keep: tensors for each parameter, numbers of Python's, and the options of their groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.updates import KINDS


def initialise_state(optimizer: Optimizer) -> None:
    """Give every parameter the state that its optimizer would give it at its first step.

    Raises:
        CaptureError: for an optimizer, or an option of it, whose update is not known.
    """
    kind = type(optimizer)
    if kind not in KINDS:
        known = ", ".join(sorted(known.__name__ for known in KINDS))
        raise CaptureError(f"optimizer {kind.__name__}: the updates that can be captured are {known}")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise CaptureError(f"optimizer {kind.__name__} has step hooks, which a captured step would not call")
    for group in optimizer.param_groups:
        refused = ["differentiable"] if group.get("differentiable") else []
        if kind is torch.optim.SGD and group["momentum"] and group["dampening"]:
            refused.append("dampening")  # torch leaves it out at the first step only
        refused += ["complex parameters"] if any(each.is_complex() for each in group["params"]) else []
        if refused:
            raise CaptureError(f"optimizer {kind.__name__} with {', '.join(refused)} has no captured update")
        for parameter in group["params"]:
            if parameter.requires_grad:
                _initialise(kind, group, parameter, optimizer.state[parameter])


def _initialise(kind: type, group: Mapping[str, Any], parameter: Tensor, state: dict[str, Any]) -> None:
    if KINDS[kind].counts == "number":
        state.setdefault("step", 0)
    elif KINDS[kind].counts == "tensor" and state.get("step") is None:
        fused = bool(group.get("fused"))
        beside = fused or group.get("capturable")
        wide = not fused and torch.get_default_dtype() == torch.float64
        dtype = torch.float64 if wide else torch.float32
        state["step"] = torch.zeros((), dtype=dtype, device=parameter.device if beside else "cpu")
    if KINDS[kind].kernel is not None and parameter.device.type != "cpu" and "step" in state:
        state["step"] = state["step"].to(parameter.device, torch.float32)  # where a kernel looks for it
    for name, option in KINDS[kind].state.items():
        if (not option or group[option]) and state.get(name) is None:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def counts_in_python(optimizer: Optimizer) -> bool:
    """Whether the optimizer counts its steps, and decays its learning rate, in Python numbers."""
    return KINDS[type(optimizer)].counts == "number"


def state_of(
    optimizer: Optimizer, parameters: Sequence[Tensor]
) -> Iterator[tuple[Tensor, dict[str, Any], str]]:
    """Where the parameters' tensors of state stand: (parameter, owner, key), in a fixed order."""
    for parameter in parameters:
        state = optimizer.state[parameter]
        for name in ("step", *KINDS[type(optimizer)].state):
            if isinstance(state.get(name), Tensor):
                yield parameter, state, name


def rate_name(group: Mapping[str, Any]) -> str:
    """The option that is the learning rate."""
    return "lr" if "lr" in group else "eta"


def options_of(group: Mapping[str, Any]) -> tuple[Any, ...]:
    """A parameter group's options but the learning rate: numbers that a graph has inside."""
    left_out = ("params", "initial_lr", rate_name(group))
    options = [value for name, value in group.items() if name not in left_out]
    return tuple([repr(value) if isinstance(value, (list, Tensor)) else value for value in options])
