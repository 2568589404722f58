"""One gradient as a function of the parameters, without side effects,
so that torch.func maps it over draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from ppl_vae.core.drawing import draw, particle_dim
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.separate import SeparateParticles
from ppl_vae.core.sites import PARTICLE_PLATE, latent_names
from ppl_vae.estimators import Estimator

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class FunctionalParticles(SeparateParticles):
    """Separate particles from programs that ran with and without their parameters, on the same draws.

    `separate.draw` asks autograd for gradients inside the forward pass, which torch.func does not
    allow. Here all terms come from a run with the parameters held fixed, so that their gradient is
    the path's, and `held` from one with the draws held fixed, so that its is the model's and the score's.
    """

    held: Particles | None = None

    @property
    def model_term(self) -> Tensor:  # type: ignore[override]
        assert self.held is not None
        return sum(self.held.log_prior.values(), self.held.reconstruction)

    @property
    def score_term(self) -> Tensor:  # type: ignore[override]
        assert self.held is not None
        return sum(self.held.log_guide.values(), torch.zeros_like(self.held.reconstruction))

    @property
    def score(self) -> Tensor | None:  # type: ignore[override]
        assert self.held is not None
        return self.held.score

    @property
    def draw_term(self) -> Tensor:  # type: ignore[override]
        assert self.held is not None
        return sum(self.held.log_draw.values(), torch.zeros_like(self.held.reconstruction))

    def path(self, objective: Tensor, factors: bool = False) -> Tensor:
        if factors:  # the shares of single draws do not come apart here
            raise NotImplementedError("a scale or mask on the guide's sites")
        return objective


class Runs(nn.Module):
    """The programs of a pair as one module, so that `functional_call` reaches the parameters of both."""

    def __init__(self, pair: Pair, num_particles: int) -> None:
        super().__init__()
        self.pair = pair
        self.num_particles = num_particles

    def forward(self, what: Callable[[Pair], Any]) -> Any:
        return what(self.pair)

    def guide_trace(self, batch: tuple[Tensor, ...]) -> Trace:
        """K draws of the guide."""
        guide: Any = self.pair.guide
        if self.num_particles > 1:
            dim = particle_dim(self.pair.model, guide, batch, {})
            guide = pyro.plate(PARTICLE_PLATE, self.num_particles, dim=dim)(guide)
        return poutine.trace(guide).get_trace(*batch)

    def at(self, trace: Trace, batch: tuple[Tensor, ...]) -> Particles:
        """The particles at a trace's draws."""
        return draw(
            self.pair.model,
            self.pair.guide,
            batch,
            num_particles=self.num_particles,
            guide_handler=ReplayMessenger(trace=trace),
        )


def separate_particles(
    pair: Pair, parameters: Parameters, batch: tuple[Tensor, ...], num_particles: int
) -> FunctionalParticles:
    """K particles as `separate.draw` gives, as a function of the parameters."""
    runs = Runs(pair, num_particles)

    def call(values: Parameters, what: Callable[[], Any]) -> Any:
        return functional_call(runs, {f"pair.{name}": p for name, p in values.items()}, (lambda _: what(),))

    drawn = call(parameters, lambda: runs.guide_trace(batch))
    # copies, so that a flow's cache does not take them for its own draws and skip the inverse
    through = _with_values(drawn, lambda value: value.clone())
    held = _with_values(drawn, lambda value: value.detach().clone())
    frozen = {name: value.detach() for name, value in parameters.items()}
    path: Particles = call(frozen, lambda: runs.at(through, batch))
    known = {f.name: getattr(path, f.name) for f in fields(Particles)}
    return FunctionalParticles(**known, held=call(parameters, lambda: runs.at(held, batch)))


def _with_values(trace: Trace, change: Callable[[Tensor], Tensor]) -> Trace:
    changed = trace.copy()
    for name in latent_names(trace):
        node = trace.nodes[name]
        changed.nodes[name] = {**node, "value": change(node["value"])}
    return changed


def bound_and_values(
    pair: Pair, estimator: Estimator, parameters: Parameters, batch: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """The scalar to be differentiated, and the bound's value: both nats per datum, of one draw."""
    if estimator.separates:
        particles: Particles = separate_particles(pair, parameters, batch, estimator.num_particles)
        estimator.check_sites(particles)
    else:
        named = {f"pair.{name}": value for name, value in parameters.items()}
        runs = Runs(pair, estimator.num_particles)
        particles = functional_call(runs, named, (lambda p: estimator.draw(p.model, p.guide, *batch),))
    bound = -estimator.total(particles) / (particles.scale * particles.batch_size)
    return bound, bound.detach()


class FreshNoise(TorchFunctionMode):
    """`torch.empty(shape).normal_()` as `torch.randn(shape)`: vmap draws anew only what is not in place.

    That is how some of torch's distributions draw; all of them use the tensor that comes back.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if len(args) == 1 and not kwargs:
            if func is torch.Tensor.normal_:
                return torch.randn_like(args[0])
            if func is torch.Tensor.uniform_:
                return torch.rand_like(args[0])
            if func is torch.Tensor.exponential_:
                return -torch.rand_like(args[0]).neg().log1p()
            if func is torch.Tensor.cauchy_:
                return (torch.pi * (torch.rand_like(args[0]) - 0.5)).tan()
        return func(*args, **kwargs)
