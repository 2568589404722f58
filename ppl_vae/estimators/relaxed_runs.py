"""Particles whose discrete draws came from noise, and a pair's runs where some of them are relaxed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core import drawing
from ppl_vae.core.isolation import random_numbers, validation
from ppl_vae.core.one_by_one import SameRows
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, Program
from ppl_vae.estimators.conditional_noise import DrawNoisily, Noisy, RunRelaxed

_smooth: weakref.WeakSet[Any] = weakref.WeakSet()
"""The models that compute with relaxed draws as numbers, as the first run has shown."""


@dataclass(frozen=True)
class NoisyParticles(Particles):
    """Particles whose bits and one-hot vectors were drawn by noise.

    Attributes:
        noisy: by site, in the guide's order.
        same_rows: under which programs that subsample take these data again.
    """

    noisy: Mapping[str, Noisy] = field(default_factory=dict, repr=False)
    same_rows: SameRows = field(default_factory=SameRows, repr=False)

    def before(self, site: str) -> Iterator[tuple[str, Noisy]]:
        """The discrete sites that the guide draws before one of them."""
        for name, each in self.noisy.items():
            if name == site:
                return
            yield name, each

    def rows(self, value: Tensor, site: str) -> Tensor:
        """(K, B, D): a site's numbers, datum by datum."""
        event_dim = self.guide_trace.nodes[site]["fn"].event_dim
        value = value if self.num_particles > 1 else value.unsqueeze(0)
        return value.movedim(-1 - event_dim, 1).reshape(len(value), self.batch_size, -1)

    def spread(self, value: Tensor, site: str) -> Tensor:
        """(K, B) numbers, broadcastable to a site's draw."""
        shape, event_dim = self.noisy[site].z.shape, self.guide_trace.nodes[site]["fn"].event_dim
        lead = shape[:1] if self.num_particles > 1 else ()
        inner = len(shape) - len(lead) - 1 - event_dim
        return value.reshape(*lead, *[1] * inner, self.batch_size, *[1] * event_dim)


def draw_noisily(
    model: Program,
    guide: Program,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    num_particles: int,
    who: str,
) -> NoisyParticles:
    """As `drawing.draw`, with bits and one-hot vectors from noise.

    Raises:
        PairError: also for other discrete sites of the guide.
    """
    noisily, same_rows = DrawNoisily(), SameRows()
    with same_rows:
        particles = drawing.draw(
            model, guide, args, kwargs, num_particles=num_particles, guide_handler=noisily
        )
    discrete = [name for name in particles.log_draw if name in particles.non_reparameterised]
    if other := [name for name in discrete if name not in noisily.drawn]:
        raise PairError(
            f"{who} treats bits, one-hot vectors and reparameterised sites, but {other} are neither: of a "
            "Categorical make a OneHotCategorical, or use estimators.VIMCO or estimators.NVIL"
        )
    known = {f.name: getattr(particles, f.name) for f in fields(Particles)}
    return NoisyParticles(**known, noisy=noisily.drawn, same_rows=same_rows)


def relaxed_run(particles: NoisyParticles, site: str, temperature: Tensor) -> tuple[Tensor, Particles]:
    """z of a site, a leaf, and the particles of both programs where the site is relaxed there.

    Sites that the guide draws before it keep their draws; those after it are drawn anew, relaxed.

    Raises:
        PairError: where the programs cannot compute with such values.
    """
    assert particles.programs is not None  # since draw made them
    model, guide, args, kwargs = particles.programs
    z = particles.noisy[site].z.detach().requires_grad_()
    given = {name: noisy.value for name, noisy in particles.before(site)}
    given[site] = particles.noisy[site].relaxed(z, temperature)
    relaxed = RunRelaxed(tuple(particles.noisy), given, temperature)
    try:
        with torch.enable_grad(), validation(False), particles.same_rows, relaxed:
            again = drawing.draw(model, guide, args, kwargs, num_particles=particles.num_particles)
    except (TypeError, IndexError, RuntimeError, ValueError) as error:
        raise PairError(f"{_needs_numbers(site)} ({error})") from error
    return z, again


def require_numbers(particles: NoisyParticles, temperature: Tensor) -> None:
    """Raise PairError where no density but its own moves with a relaxed draw; tried once for each model."""
    assert particles.programs is not None
    if (model := particles.programs[0]) in _smooth:
        return
    for site in particles.noisy:
        with random_numbers(0, temperature.device):  # the first step draws what every other would
            z, again = relaxed_run(particles, site, temperature)
        seen = again.reconstruction
        for name, prior in again.log_prior.items():
            seen = seen if name == site else seen + prior
        slope = torch.autograd.grad(seen.sum(), z, allow_unused=True)[0] if seen.requires_grad else None
        if slope is None or not bool(slope.any()):
            raise PairError(_needs_numbers(site))
    _smooth.add(model)


def _needs_numbers(site: str) -> str:
    return (
        f"the estimator runs both programs at values of site {site!r} between the discrete ones, and they do "
        "not compute with them as numbers: multiply by the values and do not index by them, or use "
        "estimators.VIMCO, estimators.DisARM or estimators.NVIL"
    )
