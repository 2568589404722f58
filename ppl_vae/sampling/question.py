"""What is asked of a batch's posterior, and the draws that answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.layout import particle_first
from ppl_vae.core.sites import latent_names
from ppl_vae.sampling.hidden import Hidden

Advance = Callable[[int], None]
Kept = tuple[str, int]
Also = Callable[[Trace, int], Mapping[Kept, Tensor]]
"""From K draws of the latents to more (K, B, ...) that go with them: what it is, and of which tensor."""
Smooth = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From (S, B) log-weights to smoothed, normalised ones and k-hat (B,)."""


@dataclass(frozen=True)
class PosteriorDraws:
    """C chains of S draws.

    Attributes:
        values: (C, S, B, *inner plates, *event) by latent site, or (C, S, ...) outside the `data` plate.
        shared: the sites outside the `data` plate.
        per_draw: (C, S, B) by name: what judges each draw.
        per_datum: (B,) by name: what judges each datum's draws.
        also: (C, S, B, ...): what goes with the draws.
    """

    values: Mapping[str, Tensor]
    shared: frozenset[str]
    per_draw: Mapping[str, Tensor]
    per_datum: Mapping[str, Tensor]
    also: Mapping[Kept, Tensor]


def gathered(
    values: Mapping[str | Kept, Tensor],
    shared: frozenset[str] = frozenset(),
    per_draw: Mapping[str, Tensor] | None = None,
    per_datum: Mapping[str, Tensor] | None = None,
) -> PosteriorDraws:
    """The draws, from sites and what goes with them in one."""
    sites = {name: value for name, value in values.items() if isinstance(name, str)}
    also = {name: value for name, value in values.items() if not isinstance(name, str)}
    return PosteriorDraws(sites, shared, per_draw or {}, per_datum or {}, also)


@dataclass(frozen=True)
class Question:
    """A batch, and what is asked of its posterior.

    Attributes:
        hidden: the batch.
        what: the question, for messages.
        smooth: how weights are smoothed.
        advance: told of each step done.
        also: what goes with draws of the latents; it is kept beside them.
    """

    hidden: Hidden
    what: str
    smooth: Smooth
    advance: Advance = lambda _: None
    also: Also = lambda *_: {}

    def values(self, trace: Trace, count: int) -> dict[str | Kept, Tensor]:
        """(count, B, ...) by latent site, (count, ...) of one outside the `data` plate; and what goes with
        them.
        """
        found: dict[str | Kept, Tensor] = {
            name: particle_first(trace.nodes[name]["value"], trace.nodes[name], count).detach()
            for name in latent_names(trace)
        }
        for name, value in self.also(trace, count).items():
            found[name] = value
        return found
