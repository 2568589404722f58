"""Joint: log p(x, z) of a batch as a function of its latents, laid out as vectors of real numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.core.drawing import particle_dim, read, with_summed_draws
from ppl_vae.core.finite import can_be_summed
from ppl_vae.core.isolation import validation
from ppl_vae.core.one_by_one import merged, runs_one_by_one
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import (
    PairError,
    Program,
    Site,
    is_deterministic,
    is_summed,
    latent_names,
)
from ppl_vae.core.stacked import unstacked
from ppl_vae.core.subsampling import draw_whole, whole_plate
from ppl_vae.core.summing import summed_run
from ppl_vae.core.terms import draw_term, over_inner_plates
from ppl_vae.distributions.improper import is_improper
from ppl_vae.queries.handlers import is_discrete
from ppl_vae.sampling.points import AtPoints
from ppl_vae.sampling.slot import Slot

_EDGE = 30.0  # where a draw stands that is at the very edge of its support, to rounding
_SAME = 1e-3  # nats by which two runs at the same latents may differ, relative to their size


class Joint:
    r"""The log-joint density of each datum's continuous latents, up to the evidence their posterior's.

    .. math:: u \mapsto \log p(x_i, z_i(u)) + \log \left|\frac{\partial z_i}{\partial u}\right|

    in nats, u in R^D for K points of B data at once, (K, B, D). Finite latents are summed over, exactly. Run
    it within `isolation.questioning`.

    Args:
        pair: model and guide.
        batch: B data.
        what: the question, for messages.
        model: stands for the pair's: a handler around it that hides some of the data.

    Raises:
        PairError: latents that all data share, that are discrete without being finite, that have no prior, or
            whose density differs between two runs at one point.

    Attributes:
        slots: the continuous sites in the order of the vector.
        summed: the finite sites.
        size: D.
    """

    def __init__(self, pair: Pair, batch: Sequence[Tensor], what: str, model: Program | None = None) -> None:
        self.pair, self.batch, self.what = pair, tuple(batch), what
        self.model: Program = pair.model if model is None else model
        self._dim = particle_dim(pair.model, pair.guide, self.batch, {})
        self._one_by_one = runs_one_by_one(pair.model, pair.guide)
        drawn = draw_whole(self.model, pair.guide, self.batch)
        if drawn.global_sites:
            raise PairError(
                f"{what} moves the latents of each datum by themselves, and "
                f"{list(drawn.global_sites)} outside "
                "the plate 'data' are shared by all data: move them into the plate, or ask for method='guide'"
            )
        self.in_guide = tuple(latent_names(drawn.guide_trace))
        nodes = {name: drawn.model_trace.nodes[name] for name in self.in_guide}
        self._refuse(nodes)
        finite = [name for name, site in nodes.items() if is_discrete(site["fn"])]
        alone = [name for name, site in drawn.model_trace.nodes.items() if is_summed(site)]
        self.summed = (*finite, *alone)
        continuous = [name for name in self.in_guide if name not in finite]
        if not continuous:
            raise PairError(
                f"{what} moves continuous latents, and the pair's {list(self.summed)} are finite: "
                f"draw them from "
                "their posterior by method='resample', or ask queries.class_probabilities"
            )
        values = {name: drawn.guide_trace.nodes[name]["value"] for name in continuous}
        self.slots: tuple[Slot, ...] = ()
        handler = AtPoints(values=values)
        self._trace(handler, 1)
        # the guide's node, since sums give the model's dims of their own
        self.slots = tuple(
            self._slot(drawn.guide_trace.nodes[name], handler.points[name]) for name in continuous
        )
        self.size = sum(slot.size for slot in self.slots)
        self._require_function(self.from_values(values, 1))

    def _refuse(self, nodes: Mapping[str, Site]) -> None:
        for name, site in nodes.items():
            if is_improper(site["fn"]):
                raise PairError(
                    f"{self.what}: the model has no prior over site {name!r}, so there is no "
                    f"posterior: use a "
                    "model with one, such as models.VAE"
                )
            if is_discrete(site["fn"]) and not can_be_summed(site["fn"]):
                raise PairError(
                    f"{self.what}: site {name!r} is discrete and has too many values to be summed "
                    f"over, and no "
                    "gradient to move along: ask for method='importance' or 'resample'"
                )

    def _slot(self, site: Site, point: Tensor) -> Slot:
        event_dim = site["fn"].event_dim
        event = point.shape[point.dim() - event_dim :]
        return Slot(site["name"], tuple(site["fn"].batch_shape), tuple(event), -self._dim - 1)

    def _require_function(self, point: Tensor) -> None:
        """Refuse a density that is another one at a second run: a program that draws in between."""
        first, second = self.log_density(point), self.log_density(point)
        if not torch.allclose(first, second, rtol=_SAME, atol=_SAME, equal_nan=True):
            raise PairError(
                f"{self.what}: the density of the same latents differs between two runs of the model, by "
                f"{float((first - second).abs().max()):.3g} nats: it draws something that its "
                f"density depends "
                "on (a missing entry under obs_mask, dropout, noise). Give that to the guide, or ask for "
                "method='importance'"
            )

    def on(self, batch: Sequence[Tensor]) -> Joint:
        """The same of another batch of the same shapes."""
        other = copy.copy(self)
        other.batch = tuple(batch)
        return other

    def log_density(self, points: Tensor) -> Tensor:
        """(K, B) at (K, B, D)."""
        prior, rest = self.log_parts(points)
        return prior + rest

    def log_parts(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The density of the latents, their volume included, and that of all the rest: (K, B) each.

        With finite sites that are summed over only the sum of the two has a meaning.
        """
        return self._each(self._log_parts, points)

    def log_guide_and_density(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(K, B) each: the log-density of the guide's own draws, as one of u, and `log_density`.

        Raises:
            PairError: for a guide that draws more than the continuous latents.
            Exception: whatever a flow without an inverse raises.
        """
        return self._each(self._log_guide_and_density, points)

    def _each(
        self, both: Callable[[Particles, AtPoints, int], tuple[Tensor, Tensor]], points: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two densities of the model run at the points, in as many runs as the programs need."""
        parts = points.split(1) if self._one_by_one and len(points) > 1 else [points]
        found = [both(*self._at(part), len(part)) for part in parts]
        return torch.cat([one for one, _ in found]), torch.cat([two for _, two in found])

    def _log_parts(self, particles: Particles, handler: AtPoints, count: int) -> tuple[Tensor, Tensor]:
        prior, rest = self._volume(handler, count), torch.zeros_like(particles.log_weight)
        for name, term in particles.log_likelihood.items():
            prior, rest = (prior + term, rest) if name in handler.values else (prior, rest + term)
        for name in particles.latent_sites:
            rest = rest - particles.kl_sample(name)
        return prior, rest

    def _log_guide_and_density(
        self, particles: Particles, handler: AtPoints, count: int
    ) -> tuple[Tensor, Tensor]:
        guide = poutine.condition(self.pair.guide, data=handler.values)
        with whole_plate(len(self.batch[0])), validation(False):
            trace = prune_subsample_sites(self._plated(guide, count))
        extra = [
            name
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and not is_deterministic(site) and name not in handler.values
        ]
        if extra:
            raise PairError(f"the guide draws {extra} besides its continuous latents")
        density = sum(draw_term(trace.nodes[slot.name], count) for slot in self.slots)
        prior, rest = self._log_parts(particles, handler, count)
        return density + self._volume(handler, count), prior + rest

    def _volume(self, handler: AtPoints, count: int) -> Tensor:
        total: Any = 0.0
        for slot in self.slots:
            volume = handler.log_volume[slot.name].expand(*slot.lead(count), *slot.plates)
            total = total + over_inner_plates(volume, count)
        return torch.as_tensor(total)

    def guide_draws(self, count: int) -> Tensor:
        """(count, B, D) draws of the guide."""
        nodes = draw_whole(self.model, self.pair.guide, self.batch, num_particles=count).guide_trace.nodes
        return self.from_values({slot.name: nodes[slot.name]["value"] for slot in self.slots}, count)

    def prior_draws(self, count: int) -> Tensor:
        """(count, B, D) draws of the model's prior."""
        drawn = []
        for _ in range(count):
            with whole_plate(len(self.batch[0])), validation(False):
                nodes = poutine.trace(self.model).get_trace(*self.batch).nodes
            drawn.append(self.from_values({slot.name: nodes[slot.name]["value"] for slot in self.slots}, 1))
        return torch.cat(drawn)

    def from_values(self, values: Mapping[str, Tensor], count: int) -> Tensor:
        """(count, B, D) of values as `count` runs of the programs at once have them."""
        if self._one_by_one and count > 1:
            rows = [
                unstacked(values[slot.name], self._dim, values[slot.name].dim() + self._dim, count)
                for slot in self.slots
            ]
            names = [slot.name for slot in self.slots]
            return torch.cat([self.from_values(dict(zip(names, each)), 1) for each in zip(*rows)])
        handler = AtPoints(values={slot.name: values[slot.name] for slot in self.slots})
        self._trace(handler, count)
        flat = torch.cat([slot.flat(handler.points[slot.name], count) for slot in self.slots], -1)
        return flat.nan_to_num(nan=0.0, posinf=_EDGE, neginf=-_EDGE)

    def trace(self, points: Tensor) -> Trace:
        """The draws at (K, B, D) as if a guide had made them, the finite ones from p(k | x, u) too."""
        if self._one_by_one and len(points) > 1:
            return merged([self.trace(point.unsqueeze(0)) for point in points], self._dim)
        particles, handler = self._at(points)
        trace = Trace()
        for slot in self.slots:
            site = particles.model_trace.nodes[slot.name]
            value = handler.values[slot.name]
            event = value.shape[value.dim() - site["fn"].event_dim :]
            value = value.expand(*slot.lead(len(points)), *slot.plates, *event)
            trace.add_node(slot.name, **{**site, "value": value, "is_observed": False})
        return plain(with_summed_draws(trace, particles))

    def _at(self, points: Tensor) -> tuple[Particles, AtPoints]:
        parts = points.split([slot.size for slot in self.slots], -1)
        handler = AtPoints({slot.name: slot.spread(part) for slot, part in zip(self.slots, parts)})
        return read(self._trace(handler, len(points)), Trace(), len(points)), handler

    def _trace(self, handler: AtPoints, count: int) -> Trace:
        with whole_plate(len(self.batch[0])), validation(False):
            if self.summed:
                model = self._in_plate(handler(self.model), count)
                return summed_run(model, Trace(), self.batch, {}, self._dim - (count > 1))
            return self._plated(handler(self.model), count)

    def _plated(self, program: Program, count: int) -> Trace:
        return poutine.trace(self._in_plate(program, count)).get_trace(*self.batch)

    def _in_plate(self, program: Program, count: int) -> Program:
        return program if count == 1 else pyro.plate("particles", count, dim=self._dim)(program)


def plain(trace: Trace) -> Trace:
    """A trace whose sites have the batch shapes of their values, without the dims of sums."""
    result = Trace()
    for name in latent_names(trace):
        site = trace.nodes[name]
        known = dist.Delta(site["value"], event_dim=site["fn"].event_dim)
        result.add_node(name, **{**site, "fn": known})
    return result


def gradient_of(density: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """A density (K, B) at (K, B, D) and its gradient; -inf and zeros where it is no finite number."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        value = density(points)
        (gradient,) = torch.autograd.grad(value.sum(), points)
    value = value.detach()
    known = value.isfinite() & gradient.isfinite().all(-1)
    return value.masked_fill(~known, -torch.inf), gradient.masked_fill(~known.unsqueeze(-1), 0.0)
