"""The guide's draws by their importance weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.drawing import with_summed_draws
from ppl_vae.core.isolation import validation
from ppl_vae.core.one_by_one import merged
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError
from ppl_vae.core.subsampling import draw_whole
from ppl_vae.sampling.joint import plain
from ppl_vae.sampling.point_mass import refuse_one_value, refuse_point_mass
from ppl_vae.sampling.question import Kept, PosteriorDraws, Question, gathered
from ppl_vae.sampling.settings import Settings

_PARTICLES = 2**21  # numbers of the largest tensor that go through the programs at once


def from_guide(question: Question, settings: Settings) -> PosteriorDraws:
    """Draws of the guide, as they are, with their weights, or drawn again by them."""
    what, smooth = question.what, question.smooth
    count = settings.num_proposals if settings.method == "resample" else settings.num_samples
    values, log_weight, shared = _weighted(question, count, settings.method != "guide")
    if settings.method == "guide" and log_weight is None:
        return gathered({name: value.unsqueeze(0) for name, value in values.items()}, shared)
    if log_weight is None:
        raise PairError(
            f"{what}: the latents {sorted(shared)} outside the plate 'data' are shared by all data, so no "
            "datum has weights of its own: move them into the plate, or ask for method='guide'"
        )
    if settings.method != "guide":
        require_weights(log_weight, what)
    lost = without_weights(log_weight)
    normalised, k_hat = smooth(log_weight)
    ess = effective_size(normalised)
    per_datum = {"k_hat": k_hat.masked_fill(lost, torch.inf), "ess": ess.masked_fill(lost, 0.0)}
    if settings.method == "resample":
        chosen = resampled(normalised, settings.num_samples)
        values = {name: take(value, chosen) for name, value in values.items()}
        per_draw: dict[str, Tensor] = {}
    else:
        per_draw = {"log_weight": (log_weight if settings.method == "guide" else normalised).unsqueeze(0)}
    return gathered({n: v.unsqueeze(0) for n, v in values.items()}, shared, per_draw, per_datum)


def _weighted(
    question: Question, count: int, weighted: bool
) -> tuple[dict[str | Kept, Tensor], Tensor | None, frozenset[str]]:
    """Draws of the guide by site, (count, B, ...), their log-weights (count, B), and the shared sites."""
    hidden, parts = question.hidden, dict[str | Kept, list[Tensor]]()
    weights, shared = [], set[str]()
    for number, size in enumerate(chunks(count, hidden.batch)):
        with validation(number == 0):
            particles = draw_whole(hidden.model, hidden.pair.guide, hidden.batch, num_particles=size)
            if weighted:
                refuse_point_mass(particles, question.what)
                refuse_one_value(particles, question.what)
            trace = with_sums(particles)
            if weighted or not particles.without_density:
                weights.append(particles.log_weight)
        shared |= set(particles.global_sites)
        for name, value in question.values(trace, size).items():
            parts.setdefault(name, []).append(value)
        question.advance(size)
    values = {name: torch.cat(each) for name, each in parts.items()}
    return values, None if shared or not weights else torch.cat(weights), frozenset(shared)


def with_sums(particles: Particles) -> Trace:
    """The guide's trace with draws of the sites that the model sums over, from p(k | x, z)."""
    if particles.singles:
        depth = particles.depth
        return merged([with_sums(single) for single in particles.singles], -depth - 1)
    trace = with_summed_draws(particles.guide_trace, particles)
    return trace if trace.nodes.keys() == particles.guide_trace.nodes.keys() else plain(trace)


def effective_size(log_weight: Tensor) -> Tensor:
    """(B,) 1 / sum of squares of normalised weights, (S, B) their logarithms."""
    return (-(2 * log_weight.double()).logsumexp(0)).exp()


def without_weights(log_weight: Tensor) -> Tensor:
    """(B,) of (S, B): whether none of a datum's draws has a density, or one has none that is a number."""
    return (log_weight == -torch.inf).all(0) | log_weight.isnan().any(0)


def require_weights(log_weight: Tensor, what: str) -> None:
    """Refuse data without weights: normalised they would be 0 / 0."""
    lost = without_weights(log_weight)
    if bool(lost.any()):
        raise PairError(
            f"{what}: {int(lost.sum()):,} of {len(lost):,} data, the first of them number "
            f"{int(lost.nonzero()[0])}, have the density 0, or none, at every one of {len(log_weight):,} "
            "draws of their latents, so there is no posterior to weigh: they lie outside the likelihood's "
            "support there. evaluate.log_likelihood(pair, data).per_datum tells which; leave them out, or "
            "give the model a likelihood under which they are possible"
        )


def resampled(log_weight: Tensor, count: int) -> Tensor:
    """(count, B): for each datum numbers of draws, with the probabilities of its weights (S, B)."""
    probs = log_weight.double().exp().T
    return torch.multinomial(probs / probs.sum(-1, keepdim=True), count, replacement=True).T


def take(values: Tensor, chosen: Tensor) -> Tensor:
    """(count, B, ...): of each datum the draws (S, B, ...) with these numbers."""
    index = chosen.reshape(*chosen.shape, *[1] * (values.dim() - 2))
    return torch.take_along_dim(values, index, 0)


def chunks(count: int, batch: tuple[Tensor, ...]) -> Iterator[int]:
    """The sizes of chunks of `count` particles that fit the caches."""
    most = max(1, _PARTICLES // max(1, *(tensor.numel() for tensor in batch), 1))
    while count > 0:
        yield min(count, most)
        count -= most
