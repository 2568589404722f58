"""What Pyro's SVI does at a step, found where it stands."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any, Literal, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI as PyroSVI
from pyro.optim import PyroLRScheduler, PyroOptim
from torch import Tensor, nn

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.clipping import clip, laid_out
from ppl_vae.capture.moves import Moves
from ppl_vae.capture.numbers import Numbers, serial_of
from ppl_vae.capture.surroundings import same_store
from ppl_vae.capture.watched import Watched
from ppl_vae.svi.call import Call

Kind = Literal["step", "evaluate_loss"]


class Found(NamedTuple):
    """What a run of the program found besides its tensors.

    Attributes:
        losses: how many there are.
        kind: of the tuple that they are; None for a single one.
        gradients: the numbers of the parameters that have one.
        moving: those that move; some have no gradient, but had one earlier.
        stepping: those whose optimizers make a step.
    """

    losses: int
    kind: type | None
    gradients: tuple[int, ...] = ()
    moving: tuple[int, ...] = ()
    stepping: tuple[int, ...] = ()


class PyroStep:
    """`svi.step` or `svi.evaluate_loss` with all that it reads and changes, as it stands now.

    Args:
        svi: whose programs, optimizer and loss.
        kind: which of its methods.
        names: of the parameters in Pyro's store that take part, each with an optimizer.
        registered: modules that the programs gave to `pyro.module`.

    Raises:
        CaptureError: for an optimizer that has no captured update.

    Attributes:
        watched: the tensors that stand in Pyro's store, and tensors and numbers of the programs, where they
            are modules, and of the loss.
        found: by the last run of `program`.
    """

    def __init__(
        self, svi: PyroSVI, kind: Kind, names: Sequence[str], registered: Iterable[nn.Module] = ()
    ) -> None:
        self.svi = svi
        self.kind: Kind = kind
        self.found = Found(0, None)
        self._looked_at = self._roots()
        self.programs = tuple(map(serial_of, (svi.model, svi.guide, svi.loss, svi.loss_and_grads)))
        store = pyro.get_param_store()._params
        self.parameters = {name: store[name] for name in names}
        places = [(store, name, parameter) for name, parameter in self.parameters.items()]
        modules = [*[each for root in self._looked_at for each in _modules(root)], *registered]
        owners = [getattr(loss, "__self__", loss) for loss in (svi.loss, svi.loss_and_grads)]
        objects = [each for each in dict.fromkeys(owners) if hasattr(each, "__dict__") and not _modules(each)]
        for each in owners:
            if type(each).__name__.startswith("Jit") and type(each).__module__.startswith("pyro."):
                raise CaptureError(
                    f"{type(each).__name__} traces the programs itself: give "
                    f"{type(each).__name__.removeprefix('Jit')}, which is captured"
                )
        self.watched = Watched(modules, objects, places)
        self.moves = Moves(self._optimizers(), self.watched.number) if kind == "step" else None
        self._clips = self._clip_options() if kind == "step" else {}

    def current(self) -> bool:
        """Whether everything still stands where it did."""
        return (
            self._stand() and self.watched.current() and not (self.moves is not None and self.moves.moved())
        )

    def guard(self) -> tuple[Any, ...]:
        """What a graph takes for granted and changes without a place changing."""
        there = pyro.get_param_store()._params.values()
        asked = tuple([each.requires_grad for each in (*self.watched.tensors, *there)])
        hooked = tuple([bool(each._backward_hooks) for each in self.parameters.values()])
        clips = tuple(
            [tuple(each.items()) for each in {id(each): each for each in self._clips.values()}.values()]
        )
        return self._stand() and self.programs, asked, hooked, clips, self.watched.values()

    def named(self) -> Numbers:
        """(name, type, value) of what else a graph is made for."""
        _, asked, _, clips, _ = self.guard()
        return (
            ("which programs they are", tuple, self.programs),
            ("which parameters require gradients", tuple, asked),
            ("how gradients are clipped", tuple, clips),
        )

    def check(self) -> None:
        """Raise CaptureError for a parameter with hooks, and for a device without float64."""
        for name, parameter in self.parameters.items():
            if parameter._backward_hooks:
                raise CaptureError(
                    f"parameter {name!r} has a hook on its gradient, which no captured step calls"
                )
            if parameter.device.type == "mps":
                raise CaptureError("device mps has no float64, in which learning rates are held")

    def program(self, call: Call) -> list[Tensor]:
        """The losses and the parameters' gradients for a call: what is recorded."""
        svi = self.svi
        tensors = [each for each in self.watched.tensors if each.requires_grad and each.is_leaf]
        before = [each.grad for each in tensors]
        for each in tensors:
            each.grad = None
        try:
            with same_store(), poutine.trace(param_only=True) as seen:
                if self.kind == "step":
                    with torch.enable_grad():
                        loss = svi.loss_and_grads(svi.model, svi.guide, *call.args, **call.kwargs)
                else:
                    with torch.no_grad():
                        loss = svi.loss(svi.model, svi.guide, *call.args, **call.kwargs)
            gradients = {id(each): each.grad for each in tensors if each.grad is not None}
        finally:
            for each, gradient in zip(tensors, before, strict=True):
                each.grad = gradient
        losses = [_as_tensor(each) for each in (loss if isinstance(loss, tuple) else (loss,))]
        kind = type(loss) if isinstance(loss, tuple) else None
        if self.kind != "step":
            self.found = Found(len(losses), kind)
            return losses
        moving = [site["value"].unconstrained() for site in seen.trace.nodes.values()]
        stepping = tuple(dict.fromkeys(self.watched.number[id(each)] for each in moving))
        with_one = [place for place in stepping if id(self.watched.tensors[place]) in gradients]
        going = [p for p in stepping if p in with_one or self.watched.tensors[p].grad is not None]
        self.found = Found(len(losses), kind, tuple(with_one), tuple(going), stepping)
        return [*losses, *[gradients[id(self.watched.tensors[place])] for place in with_one]]

    def clipped(self, found: Found, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients, in the order of `found.moving`, as Pyro's optimizer clips each."""
        given = dict(zip(found.gradients, gradients, strict=True))
        result = []
        for place in found.moving:
            parameter = self.watched.tensors[place]
            gradient = given.get(place)
            if gradient is None:
                gradient = torch.zeros(parameter.shape, dtype=parameter.dtype, device=parameter.device)
            result.append(laid_out(_clipped(gradient, **self._clips.get(place, {})), parameter))
        return result

    def _clip_options(self) -> dict[int, dict[str, Any]]:
        """By the number of a parameter, the options that Pyro's optimizer clips its gradient with: those that
        it found when it made the parameter's optimizer, which may have changed in place since.
        """
        clips = self.svi.optim.grad_clip
        found = {self.watched.number[id(each)]: clips.get(each) for each in self.parameters.values()}
        return {
            number: inspect.getclosurevars(each).nonlocals["grad_clip_args"]
            for number, each in found.items()
            if each is not None
        }

    def _stand(self) -> bool:
        """Whether programs, loss, optimizer and store are those that were looked at."""
        return all(map(is_, self._roots(), self._looked_at))

    def _roots(self) -> tuple[Any, ...]:
        svi = self.svi
        store = pyro.get_param_store()._params
        return svi.model, svi.guide, svi.optim, svi.loss, svi.loss_and_grads, store

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        optim = self.svi.optim
        if type(optim).__call__ not in (PyroOptim.__call__, PyroLRScheduler.__call__):
            raise CaptureError(f"{type(optim).__name__} moves the parameters in a way of its own")
        found = [optim.optim_objs[parameter] for parameter in self.parameters.values()]
        # a scheduler has its optimizer inside
        return list(dict.fromkeys(getattr(each, "optimizer", each) for each in found))


def _clipped(gradient: Tensor, clip_norm: float | None = None, clip_value: float | None = None) -> Tensor:
    if clip_norm is not None:
        gradient = clip({0: gradient}, clip_norm)[0]
    return gradient if clip_value is None else gradient.clamp(-clip_value, clip_value)


def _modules(root: Any) -> list[nn.Module]:
    """A program that is a module, a module's method, or one of these with arguments."""
    while isinstance(root, functools.partial):
        root = root.func
    root = root.__self__ if isinstance(root, types.MethodType) else root
    return [root] if isinstance(root, nn.Module) else []


def _as_tensor(loss: Any) -> Tensor:
    return loss.detach() if isinstance(loss, Tensor) else torch.full((), loss)
