"""The numbers of optimizers that stand in Python: learning rates, and counts of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.capture.groups import Group
from ppl_vae.capture.optimizer_state import rate_name


class Changed(NamedTuple):
    """Which of them one graph's step changes by itself: groups and counters by place."""

    groups: tuple[int, ...] = ()
    counters: tuple[int, ...] = ()


class PythonNumbers:
    """Learning rates of groups, and counts of steps, that stand for a graph in one tensor.

    The tensor follows them; where an optimizer changes them itself, the graph changes the tensor, and
    `advance` the numbers.

    Args:
        groups: of all optimizers.
        counted: the states of those parameters whose steps are counted in Python.
        device: of the tensor.

    Attributes:
        tensor: (G + C,) float64, the groups' learning rates and then the counts.
    """

    def __init__(
        self, groups: Sequence[Group], counted: Sequence[dict[str, Any]], device: torch.device
    ) -> None:
        self._groups, self._counted = groups, counted
        self.tensor = torch.zeros(len(groups) + len(counted), dtype=torch.float64, device=device)
        self._seen: list[float] = []
        self.follow()

    def follow(self) -> bool:
        """Take over what has changed; whether anything had."""
        if (values := self._values()) == self._seen:
            return False
        self._seen = values
        self.tensor.copy_(torch.tensor(values, dtype=torch.float64))
        return True

    def change(self, tensor: Tensor, changed: Changed) -> None:
        """Change, in a graph, what stands for `tensor`."""
        if any(changed):
            factor, added = [1.0] * len(tensor), [0.0] * len(tensor)
            for index in changed.groups:
                factor[index] = self._groups[index].decay() or 0.0
            for number in changed.counters:
                added[len(self._groups) + number] = 1.0
            factors, addends = (torch.tensor(each, dtype=tensor.dtype) for each in (factor, added))
            tensor.copy_(tensor * factors.to(tensor.device) + addends.to(tensor.device))

    def advance(self, changed: Changed) -> None:
        """The numbers in Python after a step of a graph, which has changed the tensor alike."""
        for index in changed.groups:
            options = self._groups[index].options
            options["lr"] *= options["lrd"]
        for number in changed.counters:
            self._counted[number]["step"] += 1
        if any(changed):
            self._seen = self._values()

    def kept(self) -> tuple[list[float], list[int]]:
        """What steps change of them: learning rates that decay by themselves, and counts of steps."""
        rates = [group.options["lr"] for group in self._groups if group.decay() is not None]
        return rates, [state["step"] for state in self._counted]

    def put_back(self, numbers: tuple[list[float], list[int]]) -> None:
        """Set them to what they were."""
        decaying = [group for group in self._groups if group.decay() is not None]
        for group, rate in zip(decaying, numbers[0], strict=True):
            group.options["lr"] = rate
        for state, count in zip(self._counted, numbers[1], strict=True):
            state["step"] = count
        self.follow()

    def _values(self) -> list[float]:
        rates = [float(group.options[rate_name(group.options)]) for group in self._groups]
        return [*rates, *[float(state["step"]) for state in self._counted]]
