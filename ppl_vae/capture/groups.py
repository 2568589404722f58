"""Groups: an optimizer's parameters of the same options, and which of them torch's kernels move at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.capture.kernels import Call
from ppl_vae.capture.optimizer_state import counts_in_python, options_of, rate_name
from ppl_vae.capture.updates import KINDS


@dataclass(frozen=True, eq=False)
class Group:
    """One parameter group: its optimizer, its options, and those of its parameters that take part."""

    optimizer: Optimizer
    options: dict[str, Any]
    parameters: list[Tensor]

    def decay(self) -> float | None:
        """What the optimizer multiplies its own learning rate with at each step; None where it does not."""
        rate = self.options.get("lrd") if counts_in_python(self.optimizer) else None
        return None if rate == 1.0 else rate


def calls_of(groups: Sequence[Group], place: Mapping[int, int], places: Sequence[int]) -> list[Call]:
    """The kernels that move some parameters, as few as can be.

    Args:
        groups: of all optimizers.
        place: of each parameter, by `id`.
        places: of those that are to move, in the order of their gradients.
    """
    calls: dict[tuple[Any, ...], Call] = {}
    for group in groups:
        kind, rate = KINDS[type(group.optimizer)], rate_name(group.options)
        for parameter in group.parameters:
            if kind.kernel is None or place[id(parameter)] not in places:
                continue
            look = parameter.dtype, parameter.device
            key = kind.kernel, float(group.options[rate]), options_of(group.options), look
            call = calls.setdefault(key, Call(kind.kernel, group.options, rate, [], {}, []))
            state = group.optimizer.state[parameter]
            call.parameters.append(parameter)
            call.places.append(places.index(place[id(parameter)]))
            for name in ("step", *kind.state):
                if isinstance(state.get(name), Tensor):
                    call.state.setdefault(name, []).append(state[name])
    return list(calls.values())


def counts_of(
    groups: Sequence[Group], counted: Sequence[tuple[int, Mapping[str, Any]]], together: bool
) -> dict[int, int]:
    """By parameter, the number of a class of parameters that have made equally many steps.

    Args:
        groups: of all optimizers.
        counted: the parameters, by `id`, whose steps are counted in Python, with their states.
        together: whether those that have will go on to; else each parameter is a class of its own.
    """
    made: dict[int, float] = {parameter: float(state["step"]) for parameter, state in counted}
    for group in groups:
        for parameter in group.parameters:
            if "step" in (state := group.optimizer.state.get(parameter, {})):
                made[id(parameter)] = float(state["step"])
    if not together:
        return {parameter: number for number, parameter in enumerate(made)}
    classes = {count: number for number, count in enumerate(dict.fromkeys(made.values()))}
    return {parameter: classes[count] for parameter, count in made.items()}
