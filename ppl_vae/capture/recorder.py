"""The recorder: runs a program as it is, on real tensors, and writes down every operation below autograd."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from ppl_vae.capture import operators
from ppl_vae.capture.before import Before, Living
from ppl_vae.capture.capture_error import CaptureError, Line, SiteWatch, explain, line_of, named
from ppl_vae.capture.looks import look_of
from ppl_vae.capture.recording import Alias, Entry, Recording, Ref
from ppl_vae.capture.surroundings import ValueWatch, at_recording
from ppl_vae.capture.watched import Run
from ppl_vae.core.isolation import random_numbers
from ppl_vae.terminal import interrupts


def record(
    run: Run,
    inputs: Sequence[Tensor],
    device: torch.device,
    seed: int,
    known: Sequence[Tensor] = (),
    first: bool = False,
) -> Recording:
    """Run a program once, as it is, and write down what it does to tensors.

    Tensors that it changes in place, and torch's random numbers, are as before afterwards.

    Args:
        run: without arguments; what it gives must be made of tensors.
        inputs: tensors that differ from call to call.
        device: where it runs.
        seed: of its random numbers.
        known: tensors that may take part, whose memory is to be theirs afterwards.
        first: a run that is thrown away, in which estimators look at programs under a seed of their own.

    Raises:
        CaptureError: where the program needs more of tensors than shape, type and device; names the line.
    """
    recorder, watch = _Recorder(inputs, device, known), SiteWatch()
    try:
        with interrupts.later(), ExitStack() as around:
            around.enter_context(random_numbers(seed, device))
            around.callback(recorder.before.restore)
            recorder.random = None if first else operators.random_state(device)
            around.enter_context(at_recording())
            for each in (watch, ValueWatch(recorder.is_constant, recorder.refuse), recorder):
                around.enter_context(each)
            outputs = list(run())
            recorder.recording.random = operators.random_state(device)
        if recorder.refused is not None:
            raise recorder.refused
        if sparse := [each for each in outputs if each.layout != torch.strided]:
            raise CaptureError(operators.SPARSE.format(tuple(sparse[0].shape)))
        recorder.recording.outputs = tuple(recorder.number_of(each) for each in outputs)
        recorder.recording.looks = tuple(look_of(each) for each in outputs)
        recorder.recording.changed, recorder.recording.copied = recorder.changed(outputs)
        if recorder.before.exchanged is not None:
            raise CaptureError(operators.EXCHANGED.format(tuple(recorder.before.exchanged.shape)))
    except Exception as error:
        cause = recorder.refused or error  # which TorchScript or the program itself may have caught
        raise explain(cause, watch) from cause
    return recorder.recording


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd, runs it, and notes it."""

    def __init__(self, inputs: Sequence[Tensor], device: torch.device, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.recording = Recording(len(inputs))
        self.random: Tensor | None = None
        self.before = Before(inputs, known)
        self.refused: CaptureError | None = None
        self._device = device
        self._inputs = inputs
        self._numbers: Any = WeakIdKeyDictionary()
        self._new = itertools.count().__next__
        self._fixed: set[int] = set()
        self._filled: dict[int | None, Any] = {}
        self._living = Living()
        for tensor in inputs:
            self._living.note(tensor, self._numbers.setdefault(tensor, self._new()))

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        line = line_of(sys._getframe(1), record.__code__)
        with torch._C.DisableTorchFunction():  # what is looked at here is not looked at by the program
            return self._seen(op, args, kwargs or {}, line)

    def _seen(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any], line: Line) -> Any:
        if op in operators.MARKERS:
            return op(*args, **kwargs)
        self._refuse_nested((args, kwargs), line)
        args = operators.without_masks(op, args, self.is_constant, self._note_constant)
        noted = self._spec(args, op), tuple((key, self._spec(each, op)) for key, each in kwargs.items())
        draws = torch.Tag.nondeterministic_seeded in op.tags
        taken = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        reason = operators.reason_against(op, (*args, *kwargs.values()))
        fixed = not draws and reason != operators.STORAGE and all(map(self.is_constant, taken))
        if reason and not fixed:
            self.refuse(line, reason)
        if draws and not self._random_as_it_was():
            self.refuse(line, operators.SEEDED)
        changing = operators.written(op, args, kwargs)
        self.before.keep(changing)
        if not fixed:  # and what is filled with it is no constant either, by whichever view
            self._filled |= {operators.storage_of(each): each.untyped_storage() for each in changing}
        found = op(*args, **kwargs)
        self._refuse_nested(found, line)
        if self.random is not None and draws:
            self.random = operators.random_state(self._device)
        results = self._result(found, fixed)
        made = [each for each in tree_leaves(found) if isinstance(each, Tensor)]
        if reason:  # of constants, and so are these
            constants = self.recording.constants
            constants |= {self.number_of(each): each.detach().clone() for each in made}
            return found
        if not op.is_view:
            self.recording.numbers += sum(map(Tensor.numel, made))
            own = [each for each in made if each.layout == torch.strided and id(each) not in map(id, taken)]
            self.recording.strides |= {self.number_of(each): each.stride() for each in own}
        self.recording.entries.append(Entry(op, *noted, results, line))
        return found

    def refuse(self, line: Line, reason: str) -> NoReturn:
        """There will be no recording, whatever the program makes of the error."""
        error = CaptureError(f"{named(line)}{reason}")
        self.refused = self.refused or error
        raise error

    def _random_as_it_was(self) -> bool:
        return self.random is None or torch.equal(self.random, operators.random_state(self._device))

    def _refuse_nested(self, tensors: Any, line: Line) -> None:
        if any(isinstance(each, Tensor) and each.is_nested for each in tree_leaves(tensors)):
            self.refuse(line, operators.NESTED)

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the run made a tensor of Python's values alone."""
        return self._numbers.get(tensor) in self._fixed and operators.storage_of(tensor) not in self._filled

    def number_of(self, tensor: Tensor) -> int:
        """A tensor's number; one that is new is an external."""
        number: int | None = self._numbers.get(tensor)
        if number is None:
            number = self._numbers[tensor] = self._new()
            self.recording.externals[number] = tensor
            self.recording.memory[number] = tensor.data_ptr() if tensor.layout == torch.strided else 0
            if (same := self._living.number(tensor)) is not None:
                self.recording.aliases[number] = Alias(same, len(self.recording.entries))
            self.before.note(tensor)
            self._living.note(tensor, number)
        return number

    def changed(self, outputs: Sequence[Tensor]) -> tuple[frozenset[int], frozenset[int]]:
        """Which inputs and externals were written to, and which outputs are views of these: their numbers."""
        there = {self.number_of(each): each for each in (*self._inputs, *self.recording.externals.values())}
        if lazy := [number for number, each in there.items() if each.is_conj() or each.is_neg()]:
            shape = tuple(there[lazy[0]].shape)
            self.refuse(self.recording.line_using(lazy[0]), operators.LAZY.format(shape))
        changed = [number for number, tensor in there.items() if self.before.changed(tensor)]
        views = [self.number_of(each) for each in outputs if self.before.changed(each)]
        return frozenset(changed), frozenset(views) - frozenset(there)

    def _note_constant(self, tensor: Tensor) -> None:
        number = self._numbers[tensor] = self._new()
        self.recording.constants[number] = tensor.detach().clone()
        self._fixed.add(number)

    def _spec(self, value: Any, op: Any) -> Any:
        if isinstance(value, Tensor):
            if op in operators.LIFTED and value not in self._numbers:
                self._note_constant(value)
            return Ref(self.number_of(value))
        if isinstance(value, list | tuple):
            return tuple([self._spec(each, op) for each in value])
        return value

    def _result(self, found: Any, fixed: bool) -> Any:
        if isinstance(found, Tensor):
            if (number := self._numbers.get(found)) is None:
                number = self._numbers[found] = self._new()
            self._living.note(found, number)
            (self._fixed.add if fixed else self._fixed.discard)(number)
            return Ref(number)
        if isinstance(found, list | tuple):
            return tuple([self._result(each, fixed) for each in found])
        return None
