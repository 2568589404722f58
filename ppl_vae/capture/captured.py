"""CapturedStep: a whole gradient step as one compiled graph, from the index of the batch to the new weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.infer import RenyiELBO
from torch import Tensor, nn

from ppl_vae.capture.errors import CaptureError
from ppl_vae.capture.graph import Backend, Compiled, compile_graph, trace
from ppl_vae.capture.slots import Slots
from ppl_vae.capture.updates import UPDATES, initialise_state, options_of, state_of
from ppl_vae.data import Split
from ppl_vae.data.rows import ResidentRows
from ppl_vae.estimators import Estimator, Renyi
from ppl_vae.isolation import questioning
from ppl_vae.kl import Penalty

MAX_TERMS = 64

Terms = dict[str, Tensor]
MakeBatch = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class _Batch:
    """Where a step's data come from: the tensors that go into the graph, and what it makes of them."""

    tensors: tuple[Tensor, ...]
    make: MakeBatch
    key: tuple[Any, ...]
    size: int


class CapturedStep:
    r"""A gradient step that is traced once for each shape of its batch, compiled, and then run without Python.

    Inside the graph are the batch (with `on`: its rows by index, and their binarisation), the guide,
    the model on its draws, the bound, the gradient, its clipping, the optimizer's update and the sums of the
    terms. Noise is fresh at every call. Weights, buffers, the optimizer's state and learning rate, KL
    weights and every tensor attribute of the pair and the estimator are read and changed where they
    are, so a changed one is seen, and eager steps may come in between. Modes (train, eval), frozen
    parameters, the optimizer's other options and the estimator's numbers are noticed, and get a graph of
    their own. Other Python values inside the pair stay what they were when the step was captured, and
    `grad` is not filled.

    Args:
        objective: the module from a batch to (loss, terms), with `pair`, `estimator`, `penalties` and
            `kl_weight`: `ppl_vae.step.Objective`.
        optimizer: torch's Adam, AdamW, Adamax or SGD.
        clip_norm: the largest norm of the pair's gradient; None does not clip.
        check_finite: leave parameters and optimizer as they are where the loss is not finite.
        backend: "inductor", or "graph", which does not compile.
        same_noise: the random numbers of the eager step, at some cost in speed.

    Raises:
        CaptureError: from the calls, for what cannot be captured; nothing has changed then.
    """

    def __init__(
        self,
        objective: Any,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        check_finite: bool = True,
        backend: Backend = "inductor",
        same_noise: bool = False,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.check_finite = check_finite
        self.backend: Backend = backend
        self.same_noise = same_noise
        self.estimator = _ours(objective.estimator)
        self.names: tuple[str, ...] = ()
        self._graphs: dict[tuple[Any, ...], tuple[list[Tensor], Compiled]] = {}
        self._slots: Slots | None = None
        self._state_owner: Any = None
        self._kl_weight: Any = None
        self._layout: tuple[Any, ...] = ()
        _refuse(objective, self.estimator)

    def __call__(self, *batch: Tensor) -> Tensor:
        """Move the parameters once; the loss before that, in nats per datum, without a graph."""
        key = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in batch)
        return self._run(_Batch(batch, tuple, key, len(batch[0])))

    def on(self, split: Split, index: Tensor) -> Tensor:
        """The same on `split.batch(index)`, which is made inside the graph for rows that lie on the device."""
        if not isinstance(split.rows, ResidentRows):
            return self(*split.batch(index))
        rows = split.rows.tensor
        labels = (split.y,) if split.with_labels and split.y is not None else ()

        def make(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            given, index, *y = tensors
            inside = replace(split, rows=ResidentRows(given), y=y[0] if y else None)
            return inside.batch(index)

        options = (split.divisor, split.dynamic, bool(labels))
        key = ("on", rows.shape, rows.stride(), rows.dtype, len(index), options)
        return self._run(_Batch((rows, index.to(rows.device), *labels), make, key, len(index)))

    def pop(self) -> Terms:
        """The sums of the terms since the last call, float64."""
        if not self.names:
            return {}
        sums = dict(zip(self.names, self._sums[: len(self.names)].clone().unbind(), strict=True))
        self._sums.zero_()
        return sums

    def _run(self, batch: _Batch) -> Tensor:
        self._follow()
        key = (*batch.key, self._layout, *self._guard())
        if key not in self._graphs:
            self._graphs[key] = self._capture(batch)
        inputs, compiled = self._graphs[key]
        with torch.no_grad():
            loss: Tensor = compiled(*inputs, *batch.tensors)[0]
        return loss

    # What the graph is a function of, and what it has inside

    def _guard(self) -> tuple[Any, ...]:
        """The Python values that a graph has inside: a graph is right for these alone."""
        numbers = (int, float, str, bool)
        return (
            tuple([module.training for module in self._modules]),
            tuple([parameter.requires_grad for parameter in self._parameters]),
            self._parameters[0].dtype,
            self._parameters[0].device,
            tuple([options_of(group) for group in self.optimizer.param_groups]),
            tuple([value for value in vars(self.estimator).values() if isinstance(value, numbers)]),
            torch.is_autocast_enabled("cpu"),
        )

    def _follow(self) -> None:
        """Look again where the tensors are, if some are no longer where they were."""
        for rate, group in zip(self._rates if self._slots else (), self.optimizer.param_groups):
            if group["lr"] != self._seen[id(rate)]:
                self._seen[id(rate)] = group["lr"]
                rate.fill_(group["lr"])
        if (
            self._slots is None
            or self._kl_weight is not self.objective.kl_weight
            or self._state_owner is not self.optimizer.state
            or not self._slots.current()
        ):
            self._look()

    def _look(self) -> None:
        objective, optimizer = self.objective, self.optimizer
        initialise_state(optimizer)
        auxiliary = [self.estimator.auxiliary] if isinstance(self.estimator, Estimator) else []
        roots = [objective.pair, *auxiliary, *objective.penalties.values()]
        self._modules = [part for root in roots for part in root.modules()]
        self._slots = Slots(roots, [self.estimator, objective.kl_weight])
        self._kl_weight, self._state_owner = objective.kl_weight, optimizer.state
        number = {id(tensor): place for place, tensor in enumerate(self._slots.tensors)}
        self._groups = [
            [parameter for parameter in group["params"] if id(parameter) in number]
            for group in optimizer.param_groups
        ]
        self._parameters = [parameter for group in self._groups for parameter in group]
        if not self._parameters:
            raise CaptureError("the optimizer has none of the pair's parameters")
        self._number = number
        device = self._parameters[0].device
        if device.type == "mps":
            raise CaptureError("device mps has no float64, in which the terms are summed")
        self._rates = [
            torch.tensor(float(group["lr"]), dtype=torch.float64, device=device)
            for group in optimizer.param_groups
        ]
        self._seen = {
            id(rate): group["lr"] for rate, group in zip(self._rates, optimizer.param_groups, strict=True)
        }
        if not self.names:
            self._sums = torch.zeros(MAX_TERMS, dtype=torch.float64, device=device)
        moving = [parameter for parameter in self._parameters if parameter.requires_grad]
        self._state_slots = list(state_of(optimizer, moving))
        self._steps = _steps_apart(optimizer, moving)
        self._graphs = {key: (self._inputs(), compiled) for key, (_, compiled) in self._graphs.items()}
        self._layout = (
            tuple(_looks(tensor) for tensor in self._inputs()),
            tuple(tuple((id(slot.owner), slot.key) for slot in places) for places in self._slots.places),
            tuple(self._steps.values()),
        )

    def _inputs(self) -> list[Tensor]:
        assert self._slots is not None
        state = [owner[name] for owner, name in self._state_slots]
        return [*self._slots.tensors, *state, *self._rates, self._sums]

    def _capture(self, batch: _Batch) -> tuple[list[Tensor], Compiled]:
        self._warm_up(batch)
        self._follow()  # what a first run made
        inputs = self._inputs()
        everything = [*inputs, *batch.tensors]
        graph = trace(lambda tensors: self._step(tensors, batch), everything, self._parameters[0].device)
        return inputs, compile_graph(graph, everything, self.backend, self.same_noise)

    def _warm_up(self, batch: _Batch) -> None:
        """One run on real tensors, for what programs and estimators find out at their first; no trace is left."""
        assert self._slots is not None
        pair = self.objective.pair
        with self._slots.unchanged(), questioning(pair, 0, pair.device):
            self.objective(*batch.make(batch.tensors))

    # The step as it is traced

    def _step(self, tensors: list[Tensor], batch: _Batch) -> list[Tensor]:
        assert self._slots is not None
        tensors = list(tensors)
        held = [tensors.pop(0) for _ in self._slots.tensors]
        state_of_slot = {(id(owner), name): tensors.pop(0) for owner, name in self._state_slots}
        rates = [tensors.pop(0) for _ in self._rates]
        sums = tensors.pop(0)

        places = [self._number[id(parameter)] for parameter in self._parameters if parameter.requires_grad]
        inside = list(held)
        for place, tensor in enumerate(self._slots.tensors):
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                inside[place] = held[place].detach().requires_grad_()
        with self._slots.holding(inside), torch.enable_grad(), self._with_estimator():
            loss, terms = self.objective(*batch.make(tensors))
            leaves = [inside[place] for place in places]
            gradients: list[Any] = [None] * len(leaves)
            if loss.requires_grad:
                gradients = list(torch.autograd.grad(loss, leaves, allow_unused=True))
        with torch.no_grad():
            by_place = dict(zip(places, gradients, strict=True))
            self._clip(by_place)
            new = self._updates(held, by_place, state_of_slot, rates)
            new.append((sums, _add_terms(sums, terms)))
            fine = loss.isfinite()
            for old, value in new:
                old.copy_(torch.where(fine, value, old) if self.check_finite else value)
        if self.names and self.names != tuple(terms):
            raise CaptureError(f"the terms were {self.names} and are now {tuple(terms)}")
        self.names = tuple(terms)
        return [loss.detach()]

    def _with_estimator(self) -> Any:
        return _Replaced(self.objective, "estimator", self.estimator)

    def _clip(self, gradients: dict[int, Any]) -> None:
        """`nn.utils.clip_grad_norm_` of the pair's parameters."""
        if self.clip_norm is None:
            return
        pairs = {self._number[id(parameter)] for parameter in self.objective.pair.parameters()}
        clipped = [place for place, gradient in gradients.items() if gradient is not None and place in pairs]
        if clipped:
            norms = [torch.linalg.vector_norm(gradients[place]) for place in clipped]
            norm = torch.linalg.vector_norm(torch.stack(norms))
            factor = (self.clip_norm / (norm + 1e-6)).clamp_max(1.0)
            for place in clipped:
                gradients[place] = gradients[place] * factor

    def _updates(
        self,
        held: list[Tensor],
        gradients: dict[int, Any],
        state_of_slot: dict[tuple[int, str], Tensor],
        rates: list[Tensor],
    ) -> list[tuple[Tensor, Tensor]]:
        update = UPDATES[type(self.optimizer)]
        new: list[tuple[Tensor, Tensor]] = []
        shared: dict[int, Tensor] = {}
        for group, parameters, rate in zip(self.optimizer.param_groups, self._groups, rates, strict=True):
            for parameter in parameters:
                place = self._number[id(parameter)]
                gradient = gradients.get(place)
                if gradient is None:
                    continue
                owner = self.optimizer.state[parameter]
                state = {
                    name: tensor for (where, name), tensor in state_of_slot.items() if where == id(owner)
                }
                step = rate
                if "step" in state:
                    moved = state.pop("step") + 1
                    new.append((state_of_slot[id(owner), "step"], moved))
                    step = shared.setdefault(self._steps[id(parameter)], moved)
                new += update(held[place], gradient.to(parameter.dtype), state, rate, step, group)
        return new


class _Replaced:
    """An object with another attribute for a while."""

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __enter__(self) -> None:
        self.before = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.value)

    def __exit__(self, *error: object) -> None:
        setattr(self.owner, self.name, self.before)


def _looks(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _add_terms(sums: Tensor, terms: Terms) -> Tensor:
    if len(terms) > MAX_TERMS:
        raise CaptureError(f"{len(terms)} logged terms; a captured step has room for {MAX_TERMS}")
    now = torch.stack([term.detach().to(sums.dtype) for term in terms.values()])
    return sums + nn.functional.pad(now, (0, MAX_TERMS - len(terms)))


def _steps_apart(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> dict[int, int]:
    """By parameter, the number of a class of parameters that have made equally many steps."""
    made = {
        id(parameter): float(optimizer.state[parameter]["step"])
        for parameter in parameters
        if "step" in optimizer.state[parameter]
    }
    classes = {count: number for number, count in enumerate(dict.fromkeys(made.values()))}
    return {parameter: classes[count] for parameter, count in made.items()}


def _ours(estimator: Any) -> Any:
    """Our equal of an estimator that turns tensors into numbers; the estimator itself elsewhere."""
    if type(estimator) is RenyiELBO and estimator.vectorize_particles:
        return Renyi(estimator.alpha, estimator.num_particles)
    return estimator


def _refuse(objective: Any, estimator: Any) -> None:
    name = type(estimator).__name__
    if isinstance(estimator, Estimator):
        if not estimator.fixed_size:
            raise CaptureError(f"estimators.{name} draws a random number of particles")
    elif not hasattr(estimator, "differentiable_loss"):
        raise CaptureError(f"{name} has no differentiable loss, but follows gradients of its own")
    for site, penalty in objective.penalties.items():
        if type(penalty).learn is not Penalty.learn:
            raise CaptureError(
                f"kl treatment {type(penalty).__name__} of site {site!r} has a training of its own after each step"
            )
