"""Held: a compiled graph and the recording that it was made of, to be held against each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from ppl_vae.capture.attributes import Attributes
from ppl_vae.capture.capture_error import CaptureError, named
from ppl_vae.capture.comparing import difference, settle
from ppl_vae.capture.graph import Compiled
from ppl_vae.capture.recorder import record
from ppl_vae.capture.recording import Recording, Ref, refs
from ppl_vae.capture.slots import Run, Slots
from ppl_vae.capture.surroundings import no_random_numbers_outside
from ppl_vae.core.isolation import random_numbers


def run_first(run: Run, inputs: Sequence[Tensor], device: torch.device, slots: Slots) -> Slots:
    """One run before all others, for what programs find out at their first; the slots as they were.

    A program's own error stays what it is.
    """
    try:
        record(functools.partial(slots.take_over, run), inputs, device, 0, slots.tensors, first=True)
    except CaptureError as error:
        if not isinstance(error.__cause__, CaptureError):
            with random_numbers(0, device):
                run()
        raise
    return slots


class Held:
    """A program that was recorded, and the graph that was compiled of it.

    It runs twice for that, with other random numbers: what differs would be wrong in a graph.

    Args:
        run: the program on the inputs; what it gives are tensors.
        inputs: tensors that differ from call to call.
        device: where it runs.
        slots: where tensors stand that may be replaced by others of the same look.
        attributes: the numbers of modules, which the program may not change.
        granted: what the graph is made for, as it is now.
        before: the slots as they were before the first run of all.

    Raises:
        CaptureError: for what cannot be captured.

    Attributes:
        recording: of the first run.
        compiled: set by whoever compiles it.
    """

    compiled: Compiled

    def __init__(
        self,
        run: Run,
        inputs: Sequence[Tensor],
        device: torch.device,
        slots: Slots,
        attributes: Attributes,
        granted: Callable[[], Hashable],
        before: Slots,
    ) -> None:
        self._device = device
        taking_over = functools.partial(slots.take_over, run)
        with no_random_numbers_outside(), attributes.kept():
            self.recording, second = (
                record(taking_over, inputs, device, seed, slots.tensors) for seed in (0, 1)
            )
        settle(self.recording, second)
        _check_carried(self.recording, [each for each in slots.tensors if id(each) not in before.number])
        self._places: list[int | Tensor] = [
            slots.number.get(id(tensor), tensor) for tensor in self.recording.externals.values()
        ]
        self._made_for = granted()
        self.follow(run, inputs, slots, attributes, granted)

    def follow(
        self,
        run: Run,
        inputs: Sequence[Tensor],
        slots: Slots,
        attributes: Attributes,
        granted: Callable[[], Hashable],
    ) -> None:
        """The call that is to be recorded next, and the tensors that take part from now on."""
        self._run, self._inputs = functools.partial(slots.take_over, run), inputs
        self._slots, self._attributes, self._granted = slots, attributes, granted
        self.tensors = [slots.tensors[each] if isinstance(each, int) else each for each in self._places]

    def comparable(self) -> bool:
        """Whether all stands as the graph takes for granted: mode, attributes, what is frozen,
        the tensors' places.

        Where it does not, another graph runs, and is held against the program.
        """
        return self._slots.current() and self._granted() == self._made_for

    def difference(self, seed: int) -> str | None:
        """Where the program now differs from the one that was recorded; None where it does not."""
        self.recording.externals = dict(zip(self.recording.externals, self.tensors, strict=True))
        try:
            with no_random_numbers_outside(), self._attributes.kept():
                return difference(self.recording, self._record(seed))
        except CaptureError as error:
            return str(error)

    def _record(self, seed: int) -> Recording:
        return record(self._run, self._inputs, self._device, seed, self._slots.tensors)


def _check_carried(recording: Recording, made: Sequence[Tensor]) -> None:
    """Refuse what the first run made and each run reads and then changes: an eager step starts without it."""
    new = {id(tensor) for tensor in made}
    for number in (each for each in recording.changed if id(recording.externals[each]) in new):
        first = next(entry for entry in recording.entries if Ref(number) in refs((entry.args, entry.kwargs)))
        if first.op is not torch.ops.aten.copy_.default or first.args[0] != Ref(number):
            shape = tuple(recording.externals[number].shape)
            raise CaptureError(
                f"{named(first.line)}the first run of the program makes a tensor of shape {shape} that later "
                "ones read and change: make it before the first step, self.register_buffer(name, tensor)"
            )
