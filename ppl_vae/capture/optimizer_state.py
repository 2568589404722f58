"""What optimizers keep: tensors for each parameter, numbers of Python's, and the options of their groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

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
    if hooked(optimizer):
        raise CaptureError(f"optimizer {kind.__name__} has step hooks, which a captured step would not call")
    own = vars(optimizer).get("step")
    wrapped = getattr(
        own, "__wrapped__", None
    )  # the step of the class, where it is torch's schedulers' wrapper
    if own is not None and wrapped is not kind.step:
        raise CaptureError(
            f"optimizer {kind.__name__} has a step of its own, optimizer.step = ..., which a captured step "
            "would not call"
        )
    for group in optimizer.param_groups:
        refused = ["differentiable"] if group.get("differentiable") else []
        if kind is torch.optim.SGD and group["momentum"] and group["dampening"]:
            refused.append("dampening")  # torch leaves it out at the first step only
        refused += ["complex parameters"] if any(each.is_complex() for each in group["params"]) else []
        if any(each._post_accumulate_grad_hooks for each in group["params"]):
            refused.append("hooks after a gradient is accumulated, register_post_accumulate_grad_hook,")
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


def hooked(optimizer: Optimizer) -> bool:
    """Whether something is to be called at each of its steps, or of all optimizers'."""
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(
        own or torch_optimizer._global_optimizer_pre_hooks or torch_optimizer._global_optimizer_post_hooks
    )


class Standing:
    """Where an optimizer keeps its parameters and its state, which a graph takes for granted."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer, self._state, self._groups = optimizer, optimizer.state, optimizer.param_groups
        self._parameters = [(each, each["params"], list(each["params"])) for each in optimizer.param_groups]
        self._step = vars(optimizer).get("step")
        self._all = [each for _, _, params in self._parameters for each in params]
        self._owners = [optimizer.state.get(each) for each in self._all]

    def holds(self) -> bool:
        """Whether all is where it was, and nothing else is to happen at a step.

        It is not after `load_state_dict`, `add_param_group`, `state.clear()`, a parameter left out, a hook.
        """
        optimizer, state = self._optimizer, self._state
        return (
            optimizer.state is state
            and optimizer.param_groups is self._groups
            and len(self._groups) == len(self._parameters)
            and all(
                now is group
                and now["params"] is there
                and len(there) == len(were)
                and all(map(is_, there, were))
                for now, (group, there, were) in zip(self._groups, self._parameters)
            )
            and all(map(is_, map(state.get, self._all), self._owners))
            and vars(optimizer).get("step") is self._step
            and not hooked(optimizer)
        )


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
