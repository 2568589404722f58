"""CapturedFunction: a computation on a pair and some tensors, traced once for each shape and compiled."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ppl_vae.capture.errors import CaptureError
from ppl_vae.capture.graph import Backend, Compiled, compile_graph, trace
from ppl_vae.capture.inductor import require_compiler
from ppl_vae.capture.numerics import without_denormals
from ppl_vae.capture.slots import Slots
from ppl_vae.isolation import random_numbers

Capture = bool | Literal["auto"]
Computation = Callable[..., Sequence[Tensor]]


class CapturedFunction:
    """`function(tensors, *numbers)`, run as a compiled graph: without Python, Pyro or autograd after the first call.

    A graph is made for each shape of the tensors and each choice of the numbers. Weights, buffers and
    every tensor attribute of the modules and objects are read where they are, so a changed one is
    seen; modes and frozen parameters are noticed and get a graph of their own. Other Python values
    stay what they were when the graph was made. Noise is fresh at every call, and by default that of
    the function as it is written.

    Args:
        function: from a sequence of tensors, and numbers, to some tensors; results have no graph.
        modules: whose tensors, with those of all their submodules, the function may use.
        objects: whose own attributes it may use.
        required: raise where the function cannot be captured; else it runs as written from then on,
            after one warning.
        backend: "inductor", or "graph", which does not compile.
        same_noise: the random numbers of the function as it is written, or Inductor's own.

    Raises:
        CaptureError: from the calls, with `required`: names the site or the line and the reason.

    Attributes:
        seconds: spent on capturing and compiling so far.
        why_not: why the function runs as written; empty while it does not.
    """

    def __init__(
        self,
        function: Computation,
        modules: Iterable[nn.Module],
        objects: Iterable[Any] = (),
        *,
        required: bool = False,
        backend: Backend = "inductor",
        same_noise: bool = True,
    ) -> None:
        self.function = function
        self.modules = tuple(modules)
        self.objects = tuple(objects)
        self.required = required
        self.backend: Backend = backend
        self.same_noise = same_noise
        self.seconds = 0.0
        self.why_not = ""
        self._graphs: dict[Hashable, Compiled] = {}
        self._look()

    @property
    def num_graphs(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def __call__(self, tensors: Sequence[Tensor], *numbers: Hashable) -> Sequence[Tensor]:
        """What `function(tensors, *numbers)` gives now."""
        if self.why_not:
            return self.function(tensors, *numbers)
        if not self._slots.current():
            self._look()
        key = (tuple([_look_of(tensor) for tensor in tensors]), numbers, self._layout, self._guard())
        compiled = self._graphs.get(key)
        if compiled is None:
            try:
                compiled = self._capture(tensors, numbers)
            except CaptureError as error:
                if self.required:
                    raise
                self.why_not = str(error)
                warnings.warn(f"runs as written, since it cannot be captured: {error}", stacklevel=3)
                return self.function(tensors, *numbers)
            # a first run may have made tensors
            self._graphs[(*key[:2], self._layout, self._guard())] = compiled
        with torch.no_grad(), without_denormals():
            return compiled(*self._slots.tensors, *tensors)

    def _look(self) -> None:
        self._slots = Slots(self.modules, self.objects)
        self._parts = [part for module in self.modules for part in module.modules()]
        self._layout = (tuple([_look_of(tensor) for tensor in self._slots.tensors]), self._slots.pattern)

    def _guard(self) -> Hashable:
        modes = tuple([(part.training, len(part._forward_hooks)) for part in self._parts])
        return modes, tuple([tensor.requires_grad for tensor in self._slots.tensors])

    def _capture(self, tensors: Sequence[Tensor], numbers: tuple[Hashable, ...]) -> Compiled:
        started = time.perf_counter()
        devices = [tensor.device for tensor in (*tensors, *self._slots.tensors)]
        device = next((each for each in devices if each.type != "cpu"), torch.device("cpu"))
        # on real tensors, for what programs find out at their first run and for errors of their own
        with self._slots.unchanged(), random_numbers(0, device):
            self.function(tensors, *numbers)
        self._look()
        everything = [*self._slots.tensors, *tensors]
        graph = trace(
            lambda given: self._traced(given, numbers), everything, device, same_noise=self.same_noise
        )
        compiled = compile_graph(graph, everything, self.backend, self.same_noise)
        self.seconds += time.perf_counter() - started
        return compiled

    def _traced(self, given: list[Tensor], numbers: tuple[Hashable, ...]) -> list[Tensor]:
        held, data = given[: len(self._slots.tensors)], given[len(self._slots.tensors) :]
        inside = [
            tensor.detach().requires_grad_() if real.requires_grad else tensor
            for tensor, real in zip(held, self._slots.tensors, strict=True)
        ]
        with self._slots.holding(inside):
            return [result.detach() for result in self.function(data, *numbers)]


def can_compile(device: torch.device) -> bool:
    """Whether functions can be compiled for a device here."""
    try:
        if device.type == "cpu":
            require_compiler()
    except CaptureError:
        return False
    return device.type != "mps"


def check_capture(capture: Capture) -> None:
    """Raise ValueError unless it is one."""
    if not isinstance(capture, bool) and not (isinstance(capture, str) and capture == "auto"):
        raise ValueError(f"capture must be True, False or 'auto', got {capture!r}")


def _look_of(tensor: Tensor) -> Hashable:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device
