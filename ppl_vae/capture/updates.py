"""The optimizers' updates as tensor operations on torch's own optimizer state, so that both can be mixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor

from ppl_vae.capture.capture_error import CaptureError

State = dict[str, Tensor]
New = list[tuple[Tensor, Tensor]]
Update = Callable[[Tensor, Tensor, State, Tensor, Tensor, Mapping[str, Any]], New]


def initialise_state(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter the state that torch would give it at its first step.

    Raises:
        CaptureError: for an optimizer, or an option of it, whose update is not written here.
    """
    kind = type(optimizer)
    if kind not in UPDATES:
        known = ", ".join(sorted(known.__name__ for known in UPDATES))
        raise CaptureError(f"optimizer {kind.__name__}: the updates that can be captured are {known}")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise CaptureError(f"optimizer {kind.__name__} has step hooks, which a captured step would not call")
    for group in optimizer.param_groups:
        _check_options(kind, group)
        for parameter in group["params"]:
            if parameter.requires_grad:
                _initialise(kind, group, parameter, optimizer.state[parameter])


def _check_options(kind: type, group: Mapping[str, Any]) -> None:
    refused = [name for name in ("amsgrad", "differentiable") if group.get(name)]
    if kind is torch.optim.SGD and group["momentum"] and group["dampening"]:
        refused.append("dampening")  # torch leaves it out at the first step only
    if refused:
        raise CaptureError(f"optimizer {kind.__name__} with {', '.join(refused)} has no captured update")


def _initialise(kind: type, group: Mapping[str, Any], parameter: Tensor, state: dict[str, Any]) -> None:
    names = [name for name in STATE[kind] if name != "momentum_buffer" or group["momentum"]]
    for name in names:
        if state.get(name) is not None:
            continue
        if name == "step":
            if kind in COUNTING:
                state[name] = 0
                continue
            beside = group.get("fused") or group.get("capturable")
            fused = bool(group.get("fused"))
            wide = not fused and torch.get_default_dtype() == torch.float64
            dtype = torch.float64 if wide else torch.float32
            state[name] = torch.zeros((), dtype=dtype, device=parameter.device if beside else "cpu")
        else:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def counts_in_python(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer counts its steps, and decays its learning rate, in Python numbers."""
    return type(optimizer) in COUNTING


def state_of(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> Iterator[tuple[Tensor, dict[str, Any], str]]:
    """Where the parameters' tensors of state stand: (parameter, owner, key), in a fixed order."""
    for parameter in parameters:
        state = optimizer.state[parameter]
        for name in STATE[type(optimizer)]:
            if isinstance(state.get(name), Tensor) and not (name == "step" and counts_in_python(optimizer)):
                yield parameter, state, name


def options_of(group: Mapping[str, Any]) -> tuple[Any, ...]:
    """A parameter group's options but the learning rate: numbers that a graph has inside."""
    options = [value for name, value in group.items() if name not in ("params", "lr", "initial_lr")]
    return tuple([repr(value) if isinstance(value, (list, Tensor)) else value for value in options])


def clip(gradients: Mapping[int, Tensor], largest: float) -> dict[int, Tensor]:
    """The gradients with the norm of all of them at most `largest`, as `nn.utils.clip_grad_norm_` does it."""
    if not gradients:
        return {}
    factor = (largest / (norm_of(gradients.values()) + 1e-6)).clamp_max(1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def norm_of(gradients: Iterable[Tensor]) -> Tensor:
    """The norm of all of them together, as `nn.utils.clip_grad_norm_` takes it."""
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    return torch.linalg.vector_norm(torch.stack(norms))


def _decayed(parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> Tensor:
    gradient = -gradient if group.get("maximize") else gradient
    return gradient + group["weight_decay"] * parameter if group["weight_decay"] else gradient


def _power(base: float, step: Tensor) -> Tensor:
    # exp, so that Inductor computes the number once and not within the loop over a parameter
    return torch.exp(step.double() * math.log(base)) if base > 0 else torch.zeros_like(step.double())


def _adam(
    parameter: Tensor, gradient: Tensor, state: State, rate: Tensor, step: Tensor, group: Mapping[str, Any]
) -> New:
    beta1, beta2 = group["betas"]
    old = parameter
    if group.get("decoupled_weight_decay"):
        gradient = -gradient if group.get("maximize") else gradient
        if group["weight_decay"]:
            parameter = parameter * (1 - rate * group["weight_decay"]).to(parameter.dtype)
    else:
        gradient = _decayed(parameter, gradient, group)
    mean = state["exp_avg"] + (1 - beta1) * (gradient - state["exp_avg"])
    square = beta2 * state["exp_avg_sq"] + (1 - beta2) * gradient * gradient
    size = (rate / (1 - _power(beta1, step))).to(parameter.dtype)
    root = (1 - _power(beta2, step)).sqrt().to(parameter.dtype)
    moved = parameter - size * mean / (square.sqrt() / root + group["eps"])
    return [(old, moved), (state["exp_avg"], mean), (state["exp_avg_sq"], square)]


def _adamax(
    parameter: Tensor, gradient: Tensor, state: State, rate: Tensor, step: Tensor, group: Mapping[str, Any]
) -> New:
    beta1, beta2 = group["betas"]
    gradient = _decayed(parameter, gradient, group)
    mean = state["exp_avg"] + (1 - beta1) * (gradient - state["exp_avg"])
    largest = torch.maximum(beta2 * state["exp_inf"], gradient.abs() + group["eps"])
    size = (rate / (1 - _power(beta1, step))).to(parameter.dtype)
    return [
        (parameter, parameter - size * mean / largest),
        (state["exp_avg"], mean),
        (state["exp_inf"], largest),
    ]


def _sgd(
    parameter: Tensor, gradient: Tensor, state: State, rate: Tensor, step: Tensor, group: Mapping[str, Any]
) -> New:
    gradient, new = _decayed(parameter, gradient, group), []
    if group["momentum"]:
        buffer = group["momentum"] * state["momentum_buffer"] + gradient
        new = [(state["momentum_buffer"], buffer)]
        gradient = gradient + group["momentum"] * buffer if group["nesterov"] else buffer
    return [(parameter, parameter - rate.to(parameter.dtype) * gradient), *new]


def _clipped_adam(
    parameter: Tensor, gradient: Tensor, state: State, rate: Tensor, step: Tensor, group: Mapping[str, Any]
) -> New:
    beta1, beta2 = group["betas"]
    gradient = gradient.clamp(-group["clip_norm"], group["clip_norm"])
    if group["weight_decay"]:
        gradient = gradient + group["weight_decay"] * parameter
    mean = beta1 * state["exp_avg"] + (1 - beta1) * gradient
    about = gradient - mean if group["centered_variance"] else gradient
    square = beta2 * state["exp_avg_sq"] + (1 - beta2) * about * about
    size = rate * group["lrd"] * (1 - _power(beta2, step)).sqrt() / (1 - _power(beta1, step))
    moved = parameter - size.to(parameter.dtype) * mean / (square.sqrt() + group["eps"])
    return [(parameter, moved), (state["exp_avg"], mean), (state["exp_avg_sq"], square)]


UPDATES: dict[type, Update] = {
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.Adamax: _adamax,
    torch.optim.SGD: _sgd,
    ClippedAdam: _clipped_adam,
}
STATE: dict[type, tuple[str, ...]] = {
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.Adamax: ("step", "exp_avg", "exp_inf"),
    torch.optim.SGD: ("momentum_buffer",),
    ClippedAdam: ("step", "exp_avg", "exp_avg_sq"),
}
COUNTING = (ClippedAdam,)
