"""CapturedFunction: a computation on a pair and some tensors, traced once for each shape and compiled."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.first_run import run_first
from ppl_vae.capture.held import Held
from ppl_vae.capture.looks import look_of
from ppl_vae.capture.watched import Watched
from ppl_vae.compiler.rewrites import Backend, Setting

Capture = bool | Literal["auto"]
Computation = Callable[..., Sequence[Tensor]]


class CapturedFunction:
    """`function(tensors, *numbers)`, run as a compiled graph: without Python,
    Pyro or autograd after the first call.

    A graph is made for each shape of the tensors and each choice of the numbers. Weights, buffers and
    every other tensor that takes part are read where they are, so a changed one is seen; modes, frozen
    parameters and the numbers that are attributes are noticed and get a graph of their own. Other Python
    values stay what they were when the graph was made; a function in which two runs differ is refused. Noise
    is fresh at every call, and by default that of the function as it is written.

    Args:
        function: from a sequence of tensors, and numbers, to some tensors; results have no graph.
        modules: whose tensors and numbers, with those of all their submodules, are looked up at each call.
        objects: whose own attributes are looked up too.
        required: raise where the function cannot be captured; else it runs as written from then on,
            after one warning.
        backend: "inductor", or "graph", which does not compile.
        same_noise: the random numbers of the function as it is written, or Inductor's own.

    Raises:
        CaptureError: from the calls, with `required`: names the site or the line and the reason.

    Attributes:
        seconds: spent on capturing and compiling so far.
        watched: the tensors and numbers of `modules` and `objects`.
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
        self._graphs: dict[Hashable, Held] = {}
        self._look()

    @property
    def num_graphs(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def __call__(self, tensors: Sequence[Tensor], *numbers: Hashable) -> Sequence[Tensor]:
        """What `function(tensors, *numbers)` gives now."""
        if self.why_not:
            return self.function(tensors, *numbers)
        if not self.watched.current():
            self._look()
        key = (self._forms(tensors), numbers, self.watched.layout, self.guard())
        held = self._graphs.get(key)
        if held is None or not held.fits(tensors):
            try:
                held = self._capture(tensors, numbers)
            except CaptureError as error:
                if self.required:
                    raise
                self.why_not = str(error)
                warnings.warn(f"runs as written, since it cannot be captured: {error}", stacklevel=3)
                return self.function(tensors, *numbers)
            # a first run may have made tensors
            self._graphs[self._forms(tensors), numbers, self.watched.layout, self.guard()] = held
        held.follow(functools.partial(self._program, tensors, numbers), tensors, self)
        return held(*tensors)

    def guard(self) -> Hashable:
        """The Python values that a graph has inside: it is right for these alone."""
        return self.watched.values(), tuple([tensor.requires_grad for tensor in self.watched.tensors])

    def _forms(self, tensors: Sequence[Tensor]) -> Hashable:
        return tuple([look_of(tensor) for tensor in tensors]), self.watched.shared(tensors)

    def _look(self) -> None:
        self.watched = Watched(self.modules, self.objects)

    def _capture(self, tensors: Sequence[Tensor], numbers: tuple[Hashable, ...]) -> Held:
        started = time.perf_counter()
        devices = [tensor.device for tensor in (*tensors, *self.watched.tensors)]
        device = next((each for each in devices if each.type != "cpu"), torch.device("cpu"))
        run = functools.partial(self._program, tensors, numbers)
        before = run_first(run, tensors, device, self.watched)
        self._look()
        held = Held(run, tensors, Setting(device, self.same_noise, backend=self.backend), self, before)
        held.compile(lambda results, _: results, [])
        self.seconds += time.perf_counter() - started
        return held

    def _program(self, tensors: Sequence[Tensor], numbers: tuple[Hashable, ...]) -> list[Tensor]:
        return [result.detach() for result in self.function(tensors, *numbers)]


def check_capture(capture: Capture) -> None:
    """Raise ValueError unless it is one."""
    if not isinstance(capture, bool) and not (isinstance(capture, str) and capture == "auto"):
        raise ValueError(f"capture must be True, False or 'auto', got {capture!r}")
