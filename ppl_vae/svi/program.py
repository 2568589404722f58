"""CapturedProgram: the step, or the evaluation, of a pyro.infer.SVI as compiled graphs."""

from __future__ import annotations

import functools
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyro
import torch
from pyro.infer import SVI as PyroSVI
from torch import Tensor, nn

from ppl_vae.capture.capture_error import CaptureError, as_refusals
from ppl_vae.capture.first_run import run_first
from ppl_vae.capture.guard import Guard
from ppl_vae.capture.held import Held
from ppl_vae.capture.numbers import LAYOUT, Numbers, check_changing
from ppl_vae.compiler.rewrites import Backend, Setting
from ppl_vae.svi.call import Call
from ppl_vae.svi.pyro_step import Found, Kind, PyroStep

Loss = Tensor | tuple[Tensor, ...]

MAX_VALUES = 16
"""More graphs than these, for the same shapes, show that a number keeps changing and should be a tensor."""
MAX_MISSES = 2
"""A parameter may be new in the store so many times running, before the next graph."""


class _Graph(NamedTuple):
    held: Held
    found: Found


@dataclass
class _Shape:
    """What is known of calls of one shape.

    Attributes:
        count: of the first ones, that Pyro's own step ran.
        used: for each value of the other arguments, the parameters that Pyro's own step used.
        misses: how often running one of them was not there, or had no optimizer.
        runs: since, by all that a graph takes for granted; with the numbers among it.
    """

    count: int = 0
    used: dict[Numbers, frozenset[str]] = field(default_factory=dict)
    misses: int = 0
    runs: dict[Hashable, int] = field(default_factory=dict)
    numbers: list[Numbers] = field(default_factory=list)


class CapturedProgram:
    """What `svi.step`, or `svi.evaluate_loss`, does, as graphs of tensor operations that are compiled.

    Recorded is Pyro's own code, the loss's `loss_and_grads` with its backward passes, so whatever loss can
    be recorded has its own mathematics. Parameters stay in Pyro's store and the optimizers' state with
    the optimizers: both are read and changed where they are. A graph is made for each shape of the
    arguments' tensors, each value of the other arguments, and each value of the numbers that are attributes
    of the programs, where they are modules. Other values of Python's may not change: see `Guard`.

    Args:
        svi: whose programs, optimizer and loss.
        kind: which of its methods.
        backend: "inductor", or "graph", which does not compile.
        same_noise: as of `CapturedStep`.

    Attributes:
        seconds: spent on capturing and compiling so far.
    """

    def __init__(
        self, svi: PyroSVI, kind: Kind, *, backend: Backend = "inductor", same_noise: bool = False
    ) -> None:
        self._svi = svi
        self.kind: Kind = kind
        self.backend: Backend = backend
        self.same_noise = same_noise
        self.seconds = 0.0
        self._shapes: dict[Hashable, _Shape] = {}
        self._graphs: dict[Hashable, _Graph] = {}
        self._layouts: dict[Hashable, int] = {}
        self._layout = -1
        self._names: list[str] = []
        self._modules: dict[nn.Module, None] = {}
        self._step: PyroStep | None = None
        self._guard: Guard | None = None

    @property
    def graphs(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def note(self, call: Call, names: Iterable[str], modules: Iterable[nn.Module] = ()) -> None:
        """The parameters and the modules that Pyro's own step has used for a call."""
        self._shapes[call.shapes].used[call.numbers] = frozenset(names)
        if self._guard is not None:
            self._guard.after_eager_step()
        before = len(self._modules)
        self._modules |= dict.fromkeys(modules)
        if self._there() != self._names or len(self._modules) > before:
            self._step = None

    def run(self, call: Call, after: int = 0) -> Loss | None:
        """The loss, before the parameters are moved; None where Pyro's own step is to be run instead.

        Args:
            call: the arguments.
            after: so many calls of a shape, and a tenth of them with the same numbers, are left to Pyro's own
                step besides the first.

        Raises:
            CaptureError: for what cannot be captured; nothing has changed then.
        """
        shape = self._shapes.setdefault(call.shapes, _Shape())
        if shape.count <= after:
            shape.count += 1
            return None
        if call.numbers not in shape.used:
            check_changing([*shape.used, call.numbers], MAX_VALUES, self._captured_steps())
            return None
        if self.kind == "step" and not shape.used[call.numbers]:
            return None  # a program without parameters, of which nothing moves
        step = self._follow()
        if step is None:
            self._miss(shape, call)
            return None
        key = self._key(call, step)
        graph = self._graphs.get(key)
        if graph is None or not graph.held.fits(call.tensors):
            step.check()
            if not shape.used[call.numbers] <= set(self._names):
                self._miss(shape, call)
                return None
            if not self._due(key, shape, call, step, after // 10):
                return None
            graph, step = self._capture(call, step)
        shape.misses = 0
        held, guard = graph.held, self._guard
        assert guard is not None
        held.follow(functools.partial(step.program, call), call.tensors, step)
        guard.before_step()
        results = held(*call.tensors)
        guard.after_step(held)
        losses, kind = results[: graph.found.losses], graph.found.kind
        return losses[0] if kind is None else kind(losses)

    def verify(self) -> None:
        """Hold the graphs that ran against the program now; see `Guard`.

        Raises:
            CaptureError: where they differ; parameters and optimizer are then back to where both last agreed.
        """
        if self._guard is not None:
            self._guard.compare()

    def _follow(self) -> PyroStep | None:
        """Everything as it stands now; None where no parameter is there."""
        if self._step is None or not self._step.current():
            self._step, self._names = None, self._there()
            if self.kind == "step" and not self._names:
                return None
            with as_refusals():
                step = PyroStep(self._svi, self.kind, self._names, self._modules)
            # a number in its place, since it is looked up at every step
            self._layout = self._layouts.setdefault(step.watched.layout, len(self._layouts))
            self._step = step
            if self._guard is None:
                self._guard = Guard(step, self._graphs)
            self._guard.renew(step)
        return self._step

    def _captured_steps(self) -> int:
        return 0 if self._guard is None else self._guard.steps

    def _there(self) -> list[str]:
        """The parameters in the store; for a step, those that have an optimizer."""
        store, optim = pyro.get_param_store()._params, self._svi.optim
        used = [names for shape in self._shapes.values() for names in shape.used.values()]
        return [
            name
            for name in dict.fromkeys(name for names in used for name in sorted(names))
            if name in store and (self.kind != "step" or store[name] in optim.optim_objs)
        ]

    def _key(self, call: Call, step: PyroStep) -> Hashable:
        return call.shapes, call.numbers, self._layout, step.guard(), step.watched.shared(call.tensors)

    def _miss(self, shape: _Shape, call: Call) -> None:
        """Leave a call to Pyro's own step, which makes what is missing; CaptureError where it does not."""
        shape.misses += 1
        if shape.misses > MAX_MISSES:
            missing = min(shape.used[call.numbers] - set(self._names))
            raise CaptureError(
                f"parameter {missing!r} is another tensor after every step, as where "
                "the parameter store is cleared or loaded between them"
            )

    def _due(self, key: Hashable, shape: _Shape, call: Call, step: PyroStep, after: int) -> bool:
        """Whether the time for a graph has come; CaptureError where number after number would need one.

        What changed since the first graph of a shape may need new parameters, which Pyro's own step makes.
        """
        after = max(after, int(bool(shape.runs) and key not in shape.runs))
        if key not in shape.runs:
            shared = step.watched.shared(call.tensors)
            where = ("where arguments lie in shared memory", tuple, shared)
            layout = (LAYOUT, int, self._layout)
            shape.numbers.append((*call.numbers, *step.watched.named(), *step.named(), where, layout))
            check_changing(shape.numbers, MAX_VALUES, self._captured_steps())
        shape.runs[key] = shape.runs.get(key, 0) + 1
        return shape.runs[key] > after

    def _capture(self, call: Call, step: PyroStep) -> tuple[_Graph, PyroStep]:
        started = time.perf_counter()
        device = next((each.device for each in (*step.watched.tensors, *call.tensors)), torch.device("cpu"))
        run = functools.partial(step.program, call)
        before = run_first(run, call.tensors, device, step.watched, again=True)
        step = self._follow() or step  # a place may have been given memory of its own
        run = functools.partial(step.program, call)
        setting = Setting(device, self.same_noise, backend=self.backend)
        held = Held(run, call.tensors, setting, step, before)
        found = step.found

        def function(results: list[Tensor], _: list[Tensor]) -> list[Tensor]:
            with torch.no_grad():
                return [*results[: found.losses], *step.clipped(found, results[found.losses :])]

        def after(results: Sequence[Tensor]) -> None:
            if self._step is not None and self._step.moves is not None:
                gradients, stepping = results[found.losses :], frozenset(found.stepping)
                self._step.moves.after(found.moving, gradients, stepping=stepping)

        held.compile(function, [], after)
        graph = self._graphs[self._key(call, step)] = _Graph(held, found)
        self.seconds += time.perf_counter() - started
        return graph, step
