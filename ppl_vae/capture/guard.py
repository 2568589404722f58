"""Guard: a captured step held against the program while it runs, and what happens where they part."""

from __future__ import annotations

import time
from operator import attrgetter
from typing import Any, Protocol

from torch import Tensor

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.held import Held, Standing
from ppl_vae.capture.moves import Moves

EVERY = 1000
"""Steps between two comparisons, when the first ones (after 1, 2, 4, 8, ... steps) are done."""
SHARE = 0.02
"""Of the time since the first capture, what comparisons may take at most, besides `AT_FIRST`."""
AT_FIRST = 0.1
"""Seconds that they may take in any case: a graph that the disk knows is there at once."""


class State(Standing, Protocol):
    """What captured steps change: the tensors that are watched, and optimizers and what they keep."""

    @property
    def moves(self) -> Moves | None: ...


_versions_of = attrgetter("_version")


class Guard:
    """Records the program again after 1, 2, 4, 8, ... captured steps, and then every thousand.

    Where the recording differs from the one that was compiled, the parameters, the optimizer and the buffers
    that the steps change go back to where they last were when both agreed, unless something else has changed
    them since; and a CaptureError names the line, the two values, and the steps.

    Args:
        state: what the steps change.
        graphs: all that were made, which are dropped then.

    Attributes:
        seconds: that comparing has taken.
        share: of the time since the first capture, that it may take; one that would be too early waits.
        steps: of graphs so far.
    """

    def __init__(self, state: State, graphs: dict[Any, Any]) -> None:
        self._state = state
        self._graphs = graphs
        self.seconds = 0.0
        self.share = SHARE
        self._started = time.perf_counter()
        self.steps = self._known_good = 0
        self._next = 1
        self._ran: dict[int, Held] = {}
        self._kept: tuple[list[Tensor], list[Tensor], Any] | None = None
        self._changing: list[Tensor] | None = None
        self._versions: list[int] = []
        self._by_others = False

    def before_step(self) -> None:
        """Keep the state that the first steps of all start from, and see whether others have changed it."""
        if self._kept is None:
            self._keep()
        self._look()

    def after_eager_step(self) -> None:
        """What has changed was changed by a step as it is written."""
        self._versions = [*map(_versions_of, self._changing or ())]

    def _look(self) -> None:
        self._by_others |= [*map(_versions_of, self._changing or ())] != self._versions

    def after_step(self, graph: Held) -> None:
        """Count a step of a graph, and compare where the time has come.

        Raises:
            CaptureError: where the program is another one than when the graph was made.
        """
        self.steps += 1
        if self._changing is None or id(graph) not in self._ran:
            self._ran[id(graph)] = graph
            changed = {id(each): each for one in self._ran.values() for each in one.changed()}
            changed |= {id(each): each for each in self._state.moves.parameters} if self._state.moves else {}
            self._changing = [each for each in changed.values() if not each.is_inference()]
        self.after_eager_step()
        if self.steps >= self._next:
            self.compare(at_once=False)

    def compare(self, at_once: bool = True) -> None:
        """Compare all graphs that ran since the last time; where there is no hurry, if that is not too early.

        Raises:
            CaptureError: as of `after_step`.
        """
        if not self._ran or not (at_once or self._can_afford()):
            return
        self._look()
        started = time.perf_counter()
        comparable = [graph for graph in self._ran.values() if graph.comparable()]
        for graph in comparable:
            if (found := graph.difference(self.steps + 1)) is not None:
                raise self._gone_back(found)
        for graph in comparable:  # the others may run again
            del self._ran[id(graph)]
        self._known_good = self.steps
        self._next = min(2 * self.steps, self.steps + EVERY)
        self._keep()
        self.seconds += time.perf_counter() - started

    def renew(self, state: State) -> None:
        """The state is another one now, as after weights were loaded: nothing before it is to come back."""
        self._state, self._kept, self._known_good = state, None, self.steps
        self._changing, self._versions = None, []

    def _can_afford(self) -> bool:
        return self.seconds <= AT_FIRST + self.share * (time.perf_counter() - self._started)

    def _keep(self) -> None:
        tensors = self._state.watched.tensors
        moves, self._by_others = self._state.moves, False
        self._kept = tensors, [each.detach().clone() for each in tensors], moves and moves.kept()

    def _gone_back(self, found: str) -> CaptureError:
        first, last = self._known_good + 1, self.steps
        back = "nothing went back, since something else has changed the parameters in between"
        if self._kept is not None and not self._by_others:
            back = "the parameters and the optimizer are back to where they were before"
            tensors, values, optimizers = self._kept
            changed = {*map(id, self._changing or ())}
            for tensor, value in zip(tensors, values, strict=True):
                if id(tensor) in changed:
                    tensor.detach().copy_(value)
            if self._state.moves is not None:
                self._state.moves.put_back(optimizers)
        self._ran.clear()
        self._graphs.clear()
        self.steps, self._next = self._known_good, self._known_good + 1
        steps = f"captured step {first}" if first == last else f"captured steps {first} to {last}"
        return CaptureError(
            f"{found}, since the step was captured: {steps} may have gone on with the old one, and {back}. "
            "What changes from step to step must be a tensor that is an argument, a buffer or a parameter, "
            "changed in place; or train without capture"
        )
