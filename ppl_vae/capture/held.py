"""Held: a compiled graph and the recording that it was made of, to be held against each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ppl_vae.capture.capture_error import CaptureError, as_refusals
from ppl_vae.capture.comparing import check_carried, difference, settle
from ppl_vae.capture.looks import by_memory, quick_looks, shared_memory, sharing
from ppl_vae.capture.recorder import record
from ppl_vae.capture.recording import Recording
from ppl_vae.capture.signature import sign
from ppl_vae.capture.surroundings import no_random_numbers_outside
from ppl_vae.capture.watched import Run, Watched
from ppl_vae.compiler.denormals import without_denormals
from ppl_vae.compiler.graph import prepare
from ppl_vae.compiler.rewrites import Setting


class Standing(Protocol):
    """What a program reads and changes, as it stands now: in places, and what a graph is made for besides."""

    watched: Watched

    def guard(self) -> Hashable: ...


class Held:
    """A program that was recorded, and the graph that was compiled of it.

    It runs twice for that, with other random numbers: what differs would be wrong in a graph.

    Args:
        run: the program on the inputs; what it gives are tensors.
        inputs: tensors that differ from call to call.
        setting: what the graph is made for.
        standing: what the program reads; it may not change the plain values.
        before: what was watched before the first run of all.

    Raises:
        CaptureError: for what cannot be captured.

    Attributes:
        recording: of the first run.
    """

    @as_refusals()
    def __init__(
        self, run: Run, inputs: Sequence[Tensor], setting: Setting, standing: Standing, before: Watched
    ) -> None:
        self._setting, watched = setting, standing.watched
        self._places: list[int | Tensor] = []
        self.follow(run, inputs, standing)
        with no_random_numbers_outside(), watched.kept():
            self.recording, second = self._record(0), self._record(1)
        settle(self.recording, second)
        check_carried(self.recording, watched.new_since(before))
        there = self.recording.externals.values()
        self._places = [watched.number.get(id(tensor), tensor) for tensor in there]
        self._others = [each for each in self._places if isinstance(each, Tensor)]
        self._looks, self._memory = quick_looks(self._others), by_memory(self._others)
        self._number = {id(each): place for place, each in enumerate(self._others)}
        self._apart = shared_memory(inputs, self._memory, self._number)
        self._made_for = standing.guard()
        self.follow(run, inputs, standing)

    @as_refusals()
    def compile(
        self,
        function: Callable[[list[Tensor], list[Tensor]], list[Tensor]],
        more: Sequence[Tensor],
        after: Callable[[Sequence[Tensor]], None] | None = None,
    ) -> None:
        """Compile the recording with what comes behind it.

        Args:
            function: of the recording's results and of tensors like `more`, which may change.
            more: given at each call before the inputs.
            after: what is done with its results each time, as part of it.

        Raises:
            CaptureError: for an operation that has no form with fixed shapes, and where compiling fails.
        """
        constants = [*self.recording.constants.values()]
        inside, outside = len(constants), len(constants) + len(self.tensors)
        count = outside + len(more)

        def whole(tensors: list[Tensor]) -> list[Tensor]:
            results = self.recording.run([*tensors[count:], *tensors[inside:outside], *tensors[:inside]])
            return function(results, tensors[outside:count])

        inputs = [*constants, *self.tensors, *more, *self._inputs]
        signature = sign(
            self.recording, lambda results: function(results, list(more)), inputs, more, self._setting
        )
        with torch._C._DisableAutocast():  # what was recorded has its casts in it
            compiled = prepare(whole, inputs, self._setting, signature)
        self._compiled = functools.partial(compiled, *constants)
        self._after = after
        self._shared: list[int] | None = None

    def __call__(self, *given: Tensor) -> Sequence[Tensor]:
        """The results of the compiled graph, given `more` and the inputs.

        Raises:
            IndexError: for an index that is out of range; names the line, where the program meets it too.
        """
        try:
            return self._called(given)
        except IndexError as error:
            raise self._placed(error) from error

    def _called(self, given: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad(), torch._C._DisableAutocast(), without_denormals(self._setting.compiles_for_cpu):
            results = list(self._compiled(*self.tensors, *given))
            if self._after is not None:
                if self._shared is None:
                    self._shared = sharing(results, (*self.tensors, *given))
                for place in self._shared:  # a gradient may be a parameter, which is about to move
                    results[place] = results[place].clone()
                self._after(results)
        return results

    def follow(self, run: Run, inputs: Sequence[Tensor], standing: Standing) -> None:
        """The call that is to be recorded next, and the tensors that take part from now on."""
        self._run, self._inputs, self._standing = run, inputs, standing
        now = standing.watched.tensors
        self.tensors = [now[each] if isinstance(each, int) else each for each in self._places]

    def changed(self) -> list[Tensor]:
        """The tensors that were there before, to which the program writes."""
        numbers, changed = self.recording.externals, self.recording.changed
        return [each for number, each in zip(numbers, self.tensors, strict=True) if number in changed]

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether tensors of nobody's, which the program finds by itself, have the memory that they had, and
        the inputs lie in it as they did.
        """
        return not self._others or (
            quick_looks(self._others) == self._looks
            and shared_memory(inputs, self._memory, self._number) == self._apart
        )

    def comparable(self) -> bool:
        """Whether all stands as the graph takes for granted: mode, attributes, what is frozen,
        the tensors' places.

        Where it does not, another graph runs, and is held against the program.
        """
        return self._standing.watched.current() and self._standing.guard() == self._made_for

    def difference(self, seed: int) -> str | None:
        """Where the program now differs from the one that was recorded; None where it does not."""
        self.recording.externals = dict(zip(self.recording.externals, self.tensors, strict=True))
        try:
            with no_random_numbers_outside(), self._standing.watched.kept():
                return difference(self.recording, self._record(seed))
        except CaptureError as error:
            return str(error)

    def _placed(self, error: IndexError) -> IndexError:
        """The error as the program has it, where its random numbers do not decide about it."""
        try:
            with self._standing.watched.kept():
                self._record(0)
        except CaptureError as found:
            return IndexError(str(found))
        return error

    def _record(self, seed: int) -> Recording:
        take = functools.partial(self._standing.watched.take_over, self._run)
        return record(take, self._inputs, self._setting.device, seed, self._standing.watched.tensors)
