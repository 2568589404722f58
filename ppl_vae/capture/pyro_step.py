"""What Pyro's SVI does at a step, found where it stands and traced as operations on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI as PyroSVI
from pyro.optim import PyroLRScheduler, PyroOptim
from torch import Tensor, nn

from ppl_vae.capture.calls import Call
from ppl_vae.capture.errors import CaptureError
from ppl_vae.capture.moves import Moved, Moves
from ppl_vae.capture.reach import Reach
from ppl_vae.capture.slots import Slots
from ppl_vae.capture.surroundings import ItemsAsTensors, same_store, shapes_alone
from ppl_vae.capture.updates import clip

Kind = Literal["step", "evaluate_loss"]


class Traced(NamedTuple):
    """What tracing a step found: its losses, the numbers that it moves, the losses' tuple if it is one."""

    losses: list[Tensor]
    moved: Moved
    kind: type | None


class PyroStep:
    """`svi.step` or `svi.evaluate_loss` with all that it reads and changes, as it stands now.

    Args:
        svi: whose programs, optimizer and loss.
        kind: which of its methods.
        names: of the parameters in Pyro's store that take part, each with an optimizer.

    Raises:
        CaptureError: for an optimizer that has no captured update.

    Attributes:
        tensors: that go into a graph, before those of a call.
        numbers: that a graph has inside.
        layout: all that a graph takes for granted.
    """

    def __init__(self, svi: PyroSVI, kind: Kind, names: Sequence[str]) -> None:
        self.svi = svi
        self.kind: Kind = kind
        self._watched = self._to_watch()
        store = pyro.get_param_store()._params
        self._parameters = {name: store[name] for name in names}
        edges = [(store, name, parameter) for name, parameter in self._parameters.items()]
        self._reach = Reach([svi.model, svi.guide, svi.loss, svi.loss_and_grads], edges)
        self._slots = Slots.at(self._reach.places)
        place = {id(tensor): place for place, tensor in enumerate(self._slots.tensors)}
        self.moves = Moves(self._optimizers(), place, together=False) if kind == "step" else None
        self.tensors = [*self._slots.tensors, *(self.moves.tensors if self.moves is not None else ())]
        looks = tuple((each.shape, each.stride(), each.dtype, each.device) for each in self.tensors)
        moves = self.moves.layout if self.moves is not None else ()
        self.numbers = self._reach.numbers
        self.layout = (looks, self._slots.pattern, moves, self.numbers, self._reach.kinds)

    def current(self) -> bool:
        """Whether everything still stands where it did."""
        return (
            all(one is two for one, two in zip(self._to_watch(), self._watched, strict=True))
            and self._reach.current()
            and not (self.moves is not None and self.moves.moved())
        )

    def guard(self) -> tuple[Any, ...]:
        """What a graph takes for granted and changes without a place changing."""
        state = [(each.requires_grad, bool(each._backward_hooks)) for each in self._parameters.values()]
        return tuple(state), self.moves.guard() if self.moves is not None else ()

    def check(self) -> None:
        """Raise CaptureError for a parameter with hooks, and for a device without float64."""
        for name, parameter in self._parameters.items():
            if parameter._backward_hooks:
                raise CaptureError(
                    f"parameter {name!r} has a hook on its gradient, which no captured step calls"
                )
            if parameter.device.type == "mps":
                raise CaptureError("device mps has no float64, in which learning rates are held")

    def traced(self, call: Call, tensors: Sequence[Tensor]) -> Traced:
        """The step on tensors that stand for `tensors` and the call's: they change in place.

        Raises:
            CaptureError: for programs that change numbers, or make parameters, whenever they run.
        """
        svi, slots = self.svi, self._slots
        held, state = tensors[: len(slots.tensors)], tensors[len(slots.tensors) : len(self.tensors)]
        args, kwargs = call.rebuild(tensors[len(self.tensors) :])
        inside = list(held)
        for place, tensor in enumerate(slots.tensors):
            if tensor.requires_grad:
                inside[place] = held[place].detach().requires_grad_()
                inside[place]._is_param = isinstance(tensor, nn.Parameter)  # type: ignore[attr-defined]
        with same_store(), self._reach.restored(), slots.holding(inside), shapes_alone(), ItemsAsTensors():
            if self.kind == "step":
                with torch.enable_grad(), poutine.trace(param_only=True) as seen:
                    loss = svi.loss_and_grads(svi.model, svi.guide, *args, **kwargs)
            else:
                with torch.no_grad():
                    loss = svi.loss(svi.model, svi.guide, *args, **kwargs)
        if self._reach.changed:
            raise CaptureError(
                f"a program changes {', '.join(self._reach.changed)}, no tensor, whenever it runs, and a "
                f"captured step does not run it"
            )
        moved = self._move(seen.trace, inside, held, state) if self.kind == "step" else Moved()
        losses = [
            each.detach() if isinstance(each, Tensor) else torch.full((), each, device=held[0].device)
            for each in (loss if isinstance(loss, tuple) else (loss,))
        ]
        return Traced(losses, moved, type(loss) if isinstance(loss, tuple) else None)

    def _move(
        self, seen: Any, inside: Sequence[Tensor], held: Sequence[Tensor], state: Sequence[Tensor]
    ) -> Moved:
        """What Pyro's optimizer does to the parameters that took part: it clips each, and moves it."""
        assert self.moves is not None
        place_of = {id(tensor): place for place, tensor in enumerate(inside)}
        places = [place_of[id(site["value"].unconstrained())] for site in seen.nodes.values()]
        gradients: dict[int, Tensor] = {}
        with torch.no_grad():
            for place in places:
                parameter, gradient = self._slots.tensors[place], inside[place].grad
                if gradient is None and parameter.grad is not None:
                    gradient = torch.zeros_like(held[place])  # as it is in Pyro after an earlier gradient
                if gradient is not None:
                    options = self.svi.optim._get_grad_clip_args(parameter)
                    gradients |= _clipped({place: gradient}, **options)
            new, numbers, moved = self.moves.updates(held, gradients, state, frozenset(places))
            for old, value in [*new, *numbers]:
                old.copy_(value)
        return moved

    def _to_watch(self) -> tuple[Any, ...]:
        svi = self.svi
        store = pyro.get_param_store()._params
        return svi.model, svi.guide, svi.optim, svi.loss, svi.loss_and_grads, store

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        optim = self.svi.optim
        if type(optim) not in (PyroOptim, PyroLRScheduler):
            raise CaptureError(f"{type(optim).__name__} moves the parameters in a way of its own")
        found = [optim.optim_objs[parameter] for parameter in self._parameters.values()]
        # a scheduler has its optimizer inside
        return list(dict.fromkeys(getattr(each, "optimizer", each) for each in found))


def _clipped(
    gradient: dict[int, Tensor], clip_norm: float | None = None, clip_value: float | None = None
) -> dict[int, Tensor]:
    if clip_norm is not None:
        gradient = clip(gradient, clip_norm)
    if clip_value is not None:
        gradient = {place: each.clamp(-clip_value, clip_value) for place, each in gradient.items()}
    return gradient
