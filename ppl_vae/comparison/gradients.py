"""Draws of a bound and its gradient at one set of parameters: many at once where that can be done."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor
from torch.func import grad, vmap

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.function import Capture, CapturedFunction, check_capture
from ppl_vae.capture.worth import worth_draws
from ppl_vae.comparison.captured_draw import captured_draw, flat
from ppl_vae.comparison.functional import FreshNoise, bound_and_values
from ppl_vae.core.isolation import ONE_THREAD, eval_mode, random_numbers, validation
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.estimators import Estimator, ours
from ppl_vae.train.objective import Objective

# Numbers in one term of the log-weights of a map, so that on a CPU they stay in its caches; in its gradients
ELEMENTS = {"cpu": 2**20}
ELEMENTS_ELSEWHERE = 2**24
GRADIENTS = 2**22
PARTS = ("model", "guide")
PARTS = ("model", "guide")


@dataclass(frozen=True)
class Layout:
    """Where the parameters of each program lie in a gradient as one vector.

    A parameter that both programs use counts as the model's.
    """

    names: tuple[str, ...]
    parameters: tuple[Tensor, ...]
    size: dict[str, int]

    def part(self, part: str) -> slice:
        """The model's or the guide's columns."""
        return slice(0, self.size["model"]) if part == "model" else slice(self.size["model"], None)

    @property
    def total(self) -> int:
        """The number of parameters."""
        return sum(self.size.values())


def layout_of(pair: Pair) -> Layout:
    """The trained parameters of a pair, the model's first.

    Raises:
        PairError: when there are none.
    """
    named = [(name, p) for name, p in pair.named_parameters() if p.requires_grad]
    named.sort(key=lambda item: not item[0].startswith("model."))
    if not named:
        raise PairError(
            "the pair has no parameters to take gradients of: unfreeze them, requires_grad_(True)"
        )
    size = {part: sum(p.numel() for name, p in named if name.startswith(part + ".")) for part in PARTS}
    return Layout(tuple(name for name, _ in named), tuple(p for _, p in named), size)


@dataclass(frozen=True)
class Draws:
    """Some draws: `bound` (c,) and `gradient` (c, P) of it, nats per datum, to climb along."""

    bound: Tensor
    gradient: Tensor


class GradientSampler:
    """Draws gradients of an estimator's bound, mean over a batch, as `fit` would follow them.

    The draws are vectorised, `vmap(grad(...))` over the programs with their parameters as arguments.
    What torch.func cannot map is drawn in a loop: Pyro's own estimators, those that change their own
    state at every draw (a moving baseline), programs that look at values. `vectorised` says which.

    With one seed, all estimators of the same K that draw alike get the same particles.

    Args:
        pair: taken as it is, in eval mode meanwhile.
        estimator: a copy of it is used.
        batch: what the programs are called with.
        capture: compute the draws with a compiled graph (`ppl_vae.capture`), from the same random numbers.
            "auto" does so where the draws are enough to repay the compilation: counted, not timed.

    Raises:
        CaptureError: from `draw` with `capture=True`, for a pair or an estimator that cannot be captured.
    """

    def __init__(
        self, pair: Pair, estimator: PyroELBO, batch: tuple[Tensor, ...], capture: Capture = False
    ) -> None:
        check_capture(capture)
        self.pair = pair
        self.capture: Capture = capture
        self.estimator = copy.deepcopy(estimator)
        self.batch = batch
        self.layout = layout_of(pair)
        self._compiled: CapturedFunction | None = None
        self._run = self._looped
        self.why_not = "it is Pyro's own"
        if ours(self.estimator) is not None:
            self.why_not = self._trial()
            if not self.why_not:
                self._run = self._mapped

    @property
    def vectorised(self) -> bool:
        """Whether many draws are taken at once."""
        return not self.why_not

    def draw(self, count: int, seed: int) -> Iterator[Draws]:
        """`count` draws, some at a time; the caller's random numbers are left as they were."""
        with self._meanwhile():
            pieces = _pieces(count, self._chunk())
            captured = self._captured(count)
        for number, size in enumerate(pieces):
            # pieces have seeds of their own, so that a loop and a map stay in step; and each is whole before
            # it is given away, so that nothing stays changed while the caller has it
            with self._meanwhile(), random_numbers(seed + 1_000_003 * number, self.pair.device):
                if captured is None or (self.vectorised and size < pieces[0]):
                    piece = self._run(size)
                elif self.vectorised:
                    piece = Draws(*captured(self.batch, size))
                else:
                    bounds, rows = zip(*[captured(self.batch) for _ in range(size)], strict=True)
                    piece = Draws(torch.stack(bounds), torch.stack(rows))
            yield piece

    @contextmanager
    def _meanwhile(self) -> Iterator[None]:
        with ONE_THREAD, eval_mode(self.pair), validation(False):
            yield

    def _captured(self, count: int) -> CapturedFunction | None:
        """What computes `count` draws in place of the programs as they are written;
        None where nothing does.
        """
        elements = self._elements() if self.vectorised else None
        auto = self.capture == "auto"
        if not self.capture or (auto and not worth_draws(count, elements, self.pair.device)):
            return None
        if self._compiled is None:
            try:
                if self.vectorised:
                    modules = [self.pair, self.estimator.auxiliary]  # type: ignore[attr-defined]
                    self._compiled = CapturedFunction(self._map, modules, [self.estimator], required=not auto)
                else:
                    self._compiled = captured_draw(
                        self.pair, self.estimator, self.batch, self._parameters, required=not auto
                    )
            except CaptureError as error:
                if not auto:
                    raise
                self.capture = False
                warnings.warn(f"draws as written, since it cannot be captured: {error}", stacklevel=3)
        return self._compiled

    def _parameters(self) -> list[Tensor]:
        """Those of the layout, as they stand in the pair now: in a graph that is made, others do."""
        named = dict(self.pair.named_parameters())
        return [named[name] for name in self.layout.names]

    def _chunk(self) -> int:
        """Draws at a time; equal for all estimators of one K, or they would not share their noise."""
        elements = ELEMENTS.get(self.pair.device.type, ELEMENTS_ELSEWHERE)
        return max(1, min(1024, elements // self._elements(), GRADIENTS // self.layout.total))

    def _elements(self) -> int:
        """Numbers in one term of the log-weights of one draw."""
        return max(1, int(self.estimator.num_particles)) * max([tensor.numel() for tensor in self.batch])

    def _trial(self) -> str:
        """Why draws cannot be mapped; empty when they can."""
        own = ours(self.estimator)
        if own is not None and own.separates and type(own).draw is not Estimator.draw:
            return "it draws in its own way"
        kept = copy.deepcopy(self.estimator)
        try:
            with eval_mode(self.pair), validation(False), random_numbers(0, self.pair.device):
                with torch.no_grad():  # what is found out once and remembered must not be found in a map
                    self.estimator.draw(self.pair.model, self.pair.guide, *self.batch)
                self._mapped(2)
                if not self._agree():
                    return "its gradient would not be that of a single draw"
        except PairError:
            raise
        except Exception as error:  # functorch, Pyro and the user's program each refuse in their own words
            return f"torch.func cannot map it ({_first_line(error)})"
        finally:
            self.estimator = kept
        return ""

    def _agree(self) -> bool:
        """Whether a map over one draw gives the gradient of a step of training on the same noise."""
        found = []
        for run in (self._mapped, self._looped):
            with random_numbers(0, self.pair.device):
                found.append(run(1).gradient)
        tolerance = 1e-8 if found[0].dtype == torch.float64 else 1e-3
        return bool((found[0] - found[1]).abs().max() <= tolerance * found[1].abs().max().clamp_min(1.0))

    def _mapped(self, size: int) -> Draws:
        return Draws(*self._map(self.batch, size))

    def _map(self, batch: Sequence[Tensor], size: int) -> list[Tensor]:
        names = self.layout.names
        parameters = {name: p.detach() for name, p in zip(names, self._parameters(), strict=True)}

        estimator: Any = self.estimator

        def one(parameters: dict[str, Tensor], _: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            def bound(values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
                return bound_and_values(self.pair, estimator, values, tuple(batch))

            return grad(bound, has_aux=True)(parameters)

        mapped: Callable[..., Any] = vmap(one, in_dims=(None, 0), randomness="different")
        with FreshNoise():
            gradients, bounds = mapped(parameters, torch.zeros(size, device=self.pair.device))
        return [bounds, torch.cat([gradients[name].reshape(size, -1) for name in names], 1)]

    def _looped(self, size: int) -> Draws:
        bounds, rows = [], []
        objective = Objective(self.pair, self.estimator)
        kept = [p.grad for p in self.layout.parameters]
        try:
            for _ in range(size):
                for parameter in self.layout.parameters:
                    parameter.grad = None
                loss = objective(*self.batch)[0]
                if loss.requires_grad:
                    loss.backward()
                # Pyro's ReweightedWakeSleep gives the model's loss and the guide's
                bounds.append(-loss.detach().flatten()[0])
                rows.append(flat(self.layout.parameters, [p.grad for p in self.layout.parameters]))
        finally:
            for parameter, gradient in zip(self.layout.parameters, kept, strict=True):
                parameter.grad = gradient
        return Draws(torch.stack(bounds), torch.stack(rows))


def _pieces(count: int, largest: int) -> list[int]:
    whole, rest = divmod(count, largest)
    return [largest] * whole + [rest] * (rest > 0)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]
