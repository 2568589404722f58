"""What each kind of optimizer does to its parameters, on its own state where it stands, so that steps as
written can come in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from pyro.optim.adagrad_rmsprop import AdagradRMSProp
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor

from ppl_vae.capture import kernels
from ppl_vae.capture.kernels import Kernel

State = dict[str, Tensor]
Options = Mapping[str, Any]
New = list[tuple[Tensor, Tensor]]


class Moving(NamedTuple):
    """A parameter, its gradient, its optimizer's state, and which step this is, where that is counted."""

    parameter: Tensor
    gradient: Tensor
    state: State
    step: Tensor


Formula = Callable[[Moving, Tensor, Options], New]


class Kind(NamedTuple):
    """A kind of optimizer.

    Attributes:
        state: the tensors that it keeps for each parameter, each with the option without which it does not.
        formula: what a parameter and its state are to be in a graph, (old, new), given a learning rate (0-d).
        counts: where steps are counted: in a "tensor", or a "number" of Python's.
        kernel: torch's own, where it has one, in place of a formula.
    """

    state: Mapping[str, str]
    formula: Formula | None
    counts: str = "tensor"
    kernel: Kernel | None = None


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


def _decayed(moving: Moving, options: Options) -> Tensor:
    gradient = -moving.gradient if options.get("maximize") else moving.gradient
    return gradient + options["weight_decay"] * moving.parameter if options["weight_decay"] else gradient


def _power(base: float, step: Tensor) -> Tensor:
    # exp, so that Inductor computes the number once and not within the loop over a parameter
    return torch.exp(step.double() * math.log(base)) if base > 0 else torch.zeros_like(step.double())


def _moved(parameter: Tensor, size: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    return parameter, parameter - size.to(parameter.dtype) * direction


def _adamax(moving: Moving, rate: Tensor, options: Options) -> New:
    (beta1, beta2), (mean, largest) = options["betas"], moving.state.values()
    gradient = _decayed(moving, options)
    to_mean = mean + (1 - beta1) * (gradient - mean)
    to_largest = torch.maximum(beta2 * largest, gradient.abs() + options["eps"])
    size = rate / (1 - _power(beta1, moving.step))
    return [
        _moved(moving.parameter, size, to_mean / to_largest),
        (mean, to_mean),
        (largest, to_largest),
    ]


def _adagrad(moving: Moving, rate: Tensor, options: Options) -> New:
    gradient, total = _decayed(moving, options), moving.state["sum"]
    to_total = total + gradient * gradient
    size = rate / (1 + (moving.step.double() - 1) * options["lr_decay"])
    return [
        _moved(moving.parameter, size, gradient / (to_total.sqrt() + options["eps"])),
        (total, to_total),
    ]


def _rmsprop(moving: Moving, rate: Tensor, options: Options) -> New:
    gradient, state, alpha = _decayed(moving, options), moving.state, options["alpha"]
    square = alpha * state["square_avg"] + (1 - alpha) * gradient * gradient
    new, width = [(state["square_avg"], square)], square
    if options["centered"]:
        mean = state["grad_avg"] + (1 - alpha) * (gradient - state["grad_avg"])
        new.append((state["grad_avg"], mean))
        width = square - mean * mean
    direction = gradient / (width.sqrt() + options["eps"])
    if options["momentum"]:
        direction = options["momentum"] * state["momentum_buffer"] + direction
        new.append((state["momentum_buffer"], direction))
    return [_moved(moving.parameter, rate, direction), *new]


def _clipped_adam(moving: Moving, rate: Tensor, options: Options) -> New:
    (beta1, beta2), (mean, square) = options["betas"], moving.state.values()
    bounded = moving.gradient.clamp(-options["clip_norm"], options["clip_norm"])
    gradient = _decayed(moving._replace(gradient=bounded), options)
    to_mean = beta1 * mean + (1 - beta1) * gradient
    about = gradient - to_mean if options["centered_variance"] else gradient
    to_square = beta2 * square + (1 - beta2) * about * about
    size = rate * options["lrd"] * (1 - _power(beta2, moving.step)).sqrt() / (1 - _power(beta1, moving.step))
    return [
        _moved(moving.parameter, size, to_mean / (to_square.sqrt() + options["eps"])),
        (mean, to_mean),
        (square, to_square),
    ]


def _adagrad_rmsprop(moving: Moving, rate: Tensor, options: Options) -> New:
    gradient, total, share = moving.gradient, moving.state["sum"], options["t"]
    later = (1 - share) * total + share * gradient * gradient
    to_total = torch.where(moving.step == 1, gradient * gradient, later)
    size = rate * moving.step.double() ** (options["delta"] - 0.5)
    return [_moved(moving.parameter, size, gradient / (1 + to_total.sqrt())), (total, to_total)]


_ADAM = {"exp_avg": "", "exp_avg_sq": ""}
KINDS: dict[type, Kind] = {
    torch.optim.Adam: Kind(_ADAM | {"max_exp_avg_sq": "amsgrad"}, None, kernel=kernels.adam),
    torch.optim.AdamW: Kind(_ADAM | {"max_exp_avg_sq": "amsgrad"}, None, kernel=kernels.adam),
    torch.optim.SGD: Kind({"momentum_buffer": "momentum"}, None, "", kernels.sgd),
    torch.optim.Adamax: Kind({"exp_avg": "", "exp_inf": ""}, _adamax),
    torch.optim.Adagrad: Kind({"sum": ""}, _adagrad),
    torch.optim.RMSprop: Kind(
        {"square_avg": "", "grad_avg": "centered", "momentum_buffer": "momentum"}, _rmsprop
    ),
    ClippedAdam: Kind(_ADAM, _clipped_adam, "number"),
    AdagradRMSProp: Kind({"sum": ""}, _adagrad_rmsprop, "number"),
}
"""The optimizers that can be captured."""
