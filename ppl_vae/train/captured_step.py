"""CapturedStep: a whole gradient step as one compiled graph, from a batch's index to new weights."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.capture_error import CaptureError, NotWorth
from ppl_vae.capture.clipping import clip, laid_out, norm_of
from ppl_vae.capture.first_run import run_first
from ppl_vae.capture.guard import Guard
from ppl_vae.capture.held import Held
from ppl_vae.capture.numbers import LAYOUT, Numbers, check_changing
from ppl_vae.capture.watched import Watched
from ppl_vae.capture.worth import worth_capturing
from ppl_vae.compiler.rewrites import Backend, Setting
from ppl_vae.compiler.rewrites.rounding import MatmulPrecision
from ppl_vae.core.isolation import questioning
from ppl_vae.data import Split
from ppl_vae.estimators import ours
from ppl_vae.train.accepted import check_equality, check_objective, equal_of
from ppl_vae.train.step_inputs import MAX_TERMS, Inputs, gradients_of, padded

MAX_VALUES = 4
"""More values than these of the numbers in a pair show that one of them keeps changing."""

Terms = dict[str, Tensor]
MakeBatch = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class _Batch:
    """Where a step's data come from: the tensors that go into the graph, and what it makes of them."""

    tensors: tuple[Tensor, ...]
    make: MakeBatch
    key: tuple[Any, ...]


class CapturedStep:
    r"""A gradient step that is traced once for each shape of its batch, compiled, and run without Python.

    Inside the graph are the batch (with `on`: its rows by index, and their binarisation), the guide,
    the model on its draws, the bound, the gradient, its clipping and the sums of the terms; the optimizer
    comes after it, by a kernel for all parameters or by its own step. Noise is fresh at every call. Weights,
    buffers, KL weights and every other tensor are read and changed where they are, so a changed one is seen,
    and eager steps may come in between. Modes (train, eval), frozen parameters
    and numbers that are attributes of modules and of the estimator get a graph of their own. No
    other value of Python's may change: the program is run again now and then (see `Guard`), and where it has
    become another one, the parameters go back and a CaptureError says which line it is. `grad` is not filled.

    Args:
        objective: the module from a batch to (loss, terms), with `pair`, `estimator`, `penalties` and
            `kl_weight`: `ppl_vae.train.step.Objective`.
        optimizer: any whose `step` needs no closure; `ppl_vae.compiler.kernels.KINDS` are the fastest.
        clip_norm: the largest norm of the pair's gradient; None does not clip.
        skip_norm: leave parameters and optimizer as they are where that norm is above this or not a number.
        check_finite: leave parameters and optimizer as they are where the loss is not finite.
        backend: "inductor", or "graph", which does not compile.
        same_noise: the random numbers of the eager step; else those of `capture.noise` on a CPU and
            Inductor's own on a GPU, which are faster and follow torch's seed too.
        matmul_precision: "bf16" rounds the factors of matrix products and convolutions on a CPU that has such
            products: `compiler.rewrites.rounding`.
        steps: how many there are to be, by the batch's size: NotWorth comes from the calls of a size whose
            steps would not repay their compilation. None captures each.

    Raises:
        CaptureError: from the calls, for what cannot be captured; nothing has changed then.

    Attributes:
        names: of the terms.
        seconds: spent on capturing and compiling so far.
    """

    def __init__(
        self,
        objective: Any,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        skip_norm: float | None = None,
        check_finite: bool = True,
        backend: Backend = "inductor",
        same_noise: bool = False,
        matmul_precision: MatmulPrecision = "float32",
        steps: Mapping[int, int] | None = None,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.skip_norm = skip_norm
        self.check_finite = check_finite
        self.backend: Backend = backend
        self.same_noise = same_noise
        self.matmul_precision: MatmulPrecision = matmul_precision
        self.steps = steps
        self._given = objective.estimator
        self.estimator = equal_of(objective.estimator)
        self.names: tuple[str, ...] = ()
        self.seconds = 0.0
        self._graphs: dict[tuple[Any, ...], Held] = {}
        self._layouts: dict[tuple[Any, ...], int] = {}
        self._layout = -1
        self._inputs: Inputs | None = None
        self._guard: Guard | None = None
        self._numbers: dict[tuple[Any, ...], list[Numbers]] = {}
        self._found: tuple[tuple[str, ...], list[int]] = (), []
        check_objective(objective, self.estimator)

    def __call__(self, *batch: Tensor) -> Tensor:
        """Move the parameters once; the loss before that, in nats per datum, without a graph."""
        key = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in batch)
        return self._run(_Batch(batch, tuple, key))

    def on(self, split: Split, index: Tensor) -> Tensor:
        """The same on `split.batch(index)`, which is made inside the graph for rows that lie on the
        device.
        """
        if not split.resident:
            return self(*split.batch(index))
        stored = split.stored()

        def make(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            index, *given = tensors
            return split.holding(given).batch(index)

        looks = [(rows.shape, rows.stride(), rows.dtype) for rows in stored]
        key = ("on", split.names, split.divisor, split.dynamic, len(index), *looks)
        return self._run(_Batch((index.to(split.device), *stored), make, key))

    def pop(self) -> Terms:
        """The sums of the terms since the last call, float64."""
        if self._inputs is None:
            return {}
        sums = self._inputs.sums
        taken = dict(zip(self.names, sums[: len(self.names)].clone().unbind(), strict=True))
        sums.zero_()
        return taken

    def after_eager_step(self) -> None:
        """The parameters were moved by a step as it is written."""
        if self._guard is not None:
            self._guard.after_eager_step()

    def verify(self, at_once: bool = True) -> None:
        """Hold the graphs that ran against the program now; see `Guard`.

        Raises:
            CaptureError: where they differ; parameters and optimizer are then back to where both last agreed.
        """
        if self._guard is not None:
            self._guard.compare(at_once)

    def _run(self, batch: _Batch) -> Tensor:
        if self._inputs is None:
            self._inputs = Inputs(self.objective, self.estimator, self.optimizer)
            self._note_layout()
        elif self._inputs.follow():
            self._note_layout()
        inputs, guard = self._inputs, self._guard
        assert guard is not None
        held = self._graphs.get(self._key(batch, inputs))
        if held is None or not held.fits(batch.tensors):
            held = self._capture(batch, inputs)
        held.follow(functools.partial(self._program, batch), batch.tensors, inputs)
        guard.before_step()
        loss = held(inputs.sums, *batch.tensors)[0]
        guard.after_step(held)
        return loss

    def _key(self, batch: _Batch, inputs: Inputs) -> tuple[Any, ...]:
        return (*batch.key, inputs.watched.shared(batch.tensors), self._layout, *inputs.guard())

    def _note_layout(self) -> None:
        # a number in its place, since it is looked up at every step
        assert self._inputs is not None
        self._layout = self._layouts.setdefault(self._inputs.layout, len(self._layouts))
        if self._guard is None:
            self._guard = Guard(self._inputs, self._graphs)
        self._guard.renew(self._inputs)

    def _capture(self, batch: _Batch, inputs: Inputs) -> Held:
        started = time.perf_counter()
        before = self._warm_up(batch, inputs)
        inputs.look()  # a first run may have made tensors
        self._note_layout()
        self._check_changing(batch, inputs)
        run = functools.partial(self._program, batch)
        setting = Setting(inputs.device, self.same_noise, self.matmul_precision, self.backend)
        held = Held(run, batch.tensors, setting, inputs, before)
        names, places = self._found
        names += ("skipped", "gradient_norm") if self.skip_norm is not None else ()
        if self.names and self.names != names:
            raise CaptureError(f"the logged terms were {list(self.names)} and are now {list(names)}")
        if len(names) > MAX_TERMS:
            raise CaptureError(f"{len(names)} logged terms; a captured step has room for {MAX_TERMS}")
        self.names = names
        if (steps := self.steps) is not None:
            steps_of_size = steps.get(len(batch.tensors[0]), 0)
            if not worth_capturing(held.recording, steps_of_size, inputs.device):
                raise NotWorth

        def after(results: Sequence[Tensor]) -> None:
            cut = len(places) + 1
            inputs.moves.after(tuple(places), results[1:cut], *results[cut:])

        rows = len(batch.tensors[0])
        step = functools.partial(self._step, watched=inputs.watched, places=places, rows=rows)
        held.compile(step, [inputs.sums], after)
        self._graphs[self._key(batch, inputs)] = held
        self.seconds += time.perf_counter() - started
        return held

    def _warm_up(self, batch: _Batch, inputs: Inputs) -> Watched:
        """One run before all others, for what programs find out at their first; what was watched before."""
        pair = self.objective.pair
        with questioning(pair, 0, pair.device), torch.enable_grad(), self._estimator_put():
            data = batch.make(batch.tensors)
            check_equality(self._given, self.estimator, pair, data)
            if (own := ours(self.estimator)) is not None:
                own.prepare(pair.model, pair.guide, *data)
                inputs.look()
        return run_first(
            functools.partial(self._program, batch), batch.tensors, inputs.device, inputs.watched
        )

    def _check_changing(self, batch: _Batch, inputs: Inputs) -> None:
        """Raise CaptureError where graph after graph would be made for numbers that keep changing."""
        seen = self._numbers.setdefault(batch.key, [])
        where = ("where a batch lies in memory that is shared", tuple, inputs.watched.shared(batch.tensors))
        seen.append((*inputs.watched.named(), where, (LAYOUT, int, self._layout)))
        assert self._guard is not None
        check_changing(seen, MAX_VALUES, self._guard.steps)

    def _program(self, batch: _Batch) -> list[Tensor]:
        """The loss, the terms and the gradients of a batch: what is recorded."""
        with torch.enable_grad(), self._estimator_put():
            loss, terms = self.objective(*batch.make(batch.tensors))
            assert self._inputs is not None
            leaves = {id(each): each for each in self._inputs.parameters if each.requires_grad}
            gradients = gradients_of(loss, leaves)
        if self.estimator is not self._given:
            terms = {"bound": terms["bound"]}  # all that an estimator of Pyro's gives
        self._found = tuple(terms), [self._inputs.watched.number[parameter] for parameter in gradients]
        return [loss.detach(), *[term.detach() for term in terms.values()], *gradients.values()]

    def _step(
        self, found: list[Tensor], more: list[Tensor], watched: Watched, places: Sequence[int], rows: int
    ) -> list[Tensor]:
        """The step as it is compiled: loss, gradients, whether nothing is to move; sums change in place."""
        (loss, *found), (sums,) = found, more
        count = len(found) - len(places)
        terms, gradients = found[:count], dict(zip(places, found[count:], strict=True))
        with torch.no_grad():
            clipped = {watched.number[id(each)] for each in self.objective.parameters()}
            own = {k: g for k, g in gradients.items() if k in clipped}
            fine = kept = loss.isfinite() if self.check_finite else None
            if self.skip_norm is not None:
                norm = norm_of(own.values()) if own else loss.new_zeros(())
                small = norm <= self.skip_norm
                kept = small if fine is None else fine & small
                terms = [*terms, (~small) * rows, norm * rows]
            if self.clip_norm is not None:
                gradients |= clip(own, self.clip_norm)
            summed = sums + padded(terms, sums)
            sums.copy_(summed if fine is None else torch.where(fine, summed, sums))
            moving = [laid_out(each, watched.tensors[place]) for place, each in gradients.items()]
        return [loss, *moving, *([] if kept is None else [(~kept).float()])]

    @contextmanager
    def _estimator_put(self) -> Iterator[None]:
        self.objective.estimator = self.estimator
        try:
            yield
        finally:
            self.objective.estimator = self._given
