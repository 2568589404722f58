"""SeparateParticles: particles whose gradient comes apart into the model's, the path's and the score's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, cast

import torch
from pyro.distributions.transforms import BatchNorm
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import TransformedDistribution

from ppl_vae.core import drawing
from ppl_vae.core.one_by_one import SameRows, joined, runs_one_by_one
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, Program
from ppl_vae.core.terms import factor, is_plain, over_inner_plates, transformed


@dataclass(frozen=True)
class SeparateParticles(Particles):
    r"""Particles at draws cut from the guide, with the three gradients of log w to be weighed apart.

    With theta the model's parameters, phi the guide's, and z a draw of the guide,

    .. math:: \nabla \log w = \underbrace{\nabla_\theta \log p(x, z)}_{\text{model}}
        + \underbrace{\frac{\partial \log w}{\partial z} \nabla_\phi z(\phi)}_{\text{path}}
        - \underbrace{\nabla_\phi \log q(z \mid x)}_{\text{score, } z \text{ fixed}}

    `model_term`, `path_term` and `score_term`, each (K, B), have these gradients and no other. An
    estimator gives each a weight. Nothing is known of the guide's parameters: the cut is an effect
    handler, the guide runs once, and so dropout, BatchNorm, flows, hierarchies and a module that
    both programs share need no care. What a shared module does in the model counts as the model's.

    Attributes:
        draws: the guide's draws before the cut, by reparameterised site; empty without gradients.
    """

    draws: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def model_term(self) -> Tensor:
        """(K, B): log p(x, z); its gradient is the model's, at fixed z."""
        total = self.reconstruction
        for site, term in self.log_prior.items():
            total = total + self._weighted(site, term)
        return total

    @cached_property
    def score_term(self) -> Tensor:
        """(K, B): log q(z | x); its gradient is the guide's, at fixed z."""
        total = torch.zeros_like(self.reconstruction)
        for site, term in self.log_guide.items():
            total = total + self._weighted(site, term)
        return total

    @cached_property
    def draw_term(self) -> Tensor:
        """(K, B): log q(z | x) of the draws themselves, no scale or mask on it;
        its gradient as `score_term`'s.
        """
        return sum(self.log_draw.values(), torch.zeros_like(self.reconstruction))

    @property
    def has_factors(self) -> bool:
        """Whether a scale or a mask stands on a site of the guide,
        so that `score_term` is not `draw_term`.
        """
        if self.singles:
            return any(single.has_factors for single in self._singles)
        return not all(is_plain(self.guide_trace.nodes[site]) for site in self.log_draw)

    @property
    def _singles(self) -> tuple[SeparateParticles, ...]:
        return cast("tuple[SeparateParticles, ...]", self.singles)

    @cached_property
    def path_term(self) -> Tensor:
        """(K, B): its gradient is what the guide's parameters do to log w through the draws;
        no meaning else.
        """
        return self.path(self.log_weight)

    @cached_property
    def factored_path_term(self) -> Tensor:
        """(K, B): `path_term` with each entry's share multiplied by its density's scale,
        or 0 under a mask.
        """
        return self.path(self.log_weight, factors=True) if self.has_factors else self.path_term

    def path(self, objective: Tensor, factors: bool = False) -> Tensor:
        """(K, B): its gradient is what the guide's parameters do to `objective`, (K, B), through the draws.

        The value has no meaning. A draw that later sites of the guide depend on counts through them too.

        Args:
            objective: what the draws move.
            factors: multiply what each entry of a draw does by the scale and mask that its density has.
        """
        if self.singles:
            return torch.cat([single.path(objective, factors) for single in self._singles])
        total = torch.zeros_like(self.reconstruction)
        sites = list(self.draws)
        cut = [self.guide_trace.nodes[site]["value"] for site in sites]
        gradients = _gradients(objective, cut)
        for last in reversed(range(len(sites))):
            site = self.guide_trace.nodes[sites[last]]
            moved = gradients[last] * self.draws[sites[last]]
            if last:
                through = _gradients(moved, cut[:last])
                gradients[:last] = [g + more for g, more in zip(gradients[:last], through, strict=True)]
            if factors:
                moved = moved * factor(site)
            event_dim = site["fn"].event_dim
            moved = moved.flatten(-event_dim).sum(-1) if event_dim else moved
            total = total + over_inner_plates(moved, self.num_particles)
        return total


def draw(
    model: Program,
    guide: Program,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    num_particles: int = 1,
) -> SeparateParticles:
    """As `drawing.draw`, with the same random numbers and values, but with the draws cut from the guide.

    Raises:
        PairError: also for a flow in the guide that has no inverse, or another one in training mode.
    """
    if num_particles > 1 and runs_one_by_one(model, guide):
        with SameRows():
            singles = [draw(model, guide, args, kwargs) for _ in range(num_particles)]
        together = joined(singles, drawing.particle_dim(model, guide, args, kwargs or {}))
        assert isinstance(together, SeparateParticles)
        return together
    cut = _Cut()
    try:
        particles = drawing.draw(model, guide, args, kwargs, num_particles=num_particles, guide_handler=cut)
    except (NotImplementedError, KeyError) as error:
        if not cut.transformed:
            raise
        raise PairError(
            f"sites {cut.transformed}: the guide's density is needed at given draws, but a transform has no "
            f"inverse ({type(error).__name__}: {error}). Use a flow with an inverse, or estimators.ELBO or "
            f"estimators.IWAE, which need none"
        ) from error
    read = {f.name: getattr(particles, f.name) for f in fields(Particles)}
    return SeparateParticles(**read, draws=cut.draws)


class _Cut(Messenger):
    """Keeps each reparameterised draw, and hands the program a copy that no gradient leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: dict[str, Tensor] = {}
        self.transformed: list[str] = []

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if msg["is_observed"] or not isinstance(value, Tensor) or not value.requires_grad:
            return
        if (fn := transformed(msg["fn"])) is not None:
            self.transformed.append(msg["name"])
            _refuse_batch_norm(msg["name"], fn)
        self.draws[msg["name"]] = value
        # a new tensor, so that a flow's cache does not take it for the draw and skip the inverse
        msg["value"] = value.detach().requires_grad_()


def _refuse_batch_norm(site: str, fn: TransformedDistribution) -> None:
    modules = [
        m for transform in fn.transforms if isinstance(transform, nn.Module) for m in transform.modules()
    ]
    if any(isinstance(module, BatchNorm) and module.training for module in modules):
        raise PairError(
            f"site {site!r}: a BatchNorm transform draws with its running averages, but in training mode its "
            f"inverse uses the batch's own, so the density at given draws is another one. Put the transform "
            f"in eval mode, leave it out, or use estimators.ELBO or estimators.IWAE"
        )


def _gradients(term: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    if not term.requires_grad or not tensors:
        return [torch.zeros_like(tensor) for tensor in tensors]
    gradients = torch.autograd.grad(term.sum(), tensors, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(tensor) if gradient is None else gradient.detach()
        for gradient, tensor in zip(gradients, tensors, strict=True)
    ]
