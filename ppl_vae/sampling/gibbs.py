"""Gibbs sampling between the latents and what is hidden of a batch, by the guide's draws alone or made
exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.core.isolation import validation
from ppl_vae.core.particles import Particles
from ppl_vae.core.replaying import replayed, values_of
from ppl_vae.core.sites import PairError, auxiliary_names
from ppl_vae.core.subsampling import draw_whole
from ppl_vae.sampling.completing import Completion
from ppl_vae.sampling.hidden import Hidden, with_gaps
from ppl_vae.sampling.point_mass import refuse_one_value, refuse_point_mass
from ppl_vae.sampling.question import Kept
from ppl_vae.sampling.weighted import with_sums


@dataclass(frozen=True)
class GibbsDraws:
    """S draws of what is hidden.

    Attributes:
        values: (S, B, ...) as `Completion` names them.
        acceptance: (B,), the share of proposed latents that were taken; ones without an accept step.
        moves: (B,), how many of them a chain took, its warm-up's too.
    """

    values: Mapping[Kept, Tensor]
    acceptance: Tensor
    moves: Tensor


def gibbs(
    hidden: Hidden,
    completion: Callable[[Hidden], Completion],
    num_samples: int,
    num_chains: int,
    warmup: int,
    exact: bool,
    advance: Callable[[int], None],
    what: str,
) -> tuple[GibbsDraws, Completion]:
    r"""Latents from the guide given a complete batch, then what is hidden from the model given the latents.

    Without more that is pseudo-Gibbs, whose law is the model's only where the guide is its posterior. With an
    accept step for each datum, after the warm-up,

    .. math:: \min\Bigl(1, \frac{p(x, z')\, q(z \mid x)}{p(x, z)\, q(z' \mid x)}\Bigr),

    it is the model's for any guide.

    Args:
        hidden: the batch.
        completion: for a hidden batch.
        num_samples: S, at least; a multiple of the chains.
        num_chains: side by side, each a copy of the batch.
        warmup: rounds before the first that is kept, all without an accept step but the last tenth.
        exact: with the accept step.
        advance: told of each round.
        what: the question, for messages.

    Rezende, Mohamed and Wierstra, Stochastic Backpropagation and Approximate Inference in Deep Generative
    Models, arXiv:1401.4082; Mattei and Frellsen, Leveraging the Exact Likelihood of Deep Latent Variable
    Models, arXiv:1802.04826.
    """
    rows = len(hidden.batch[0])
    tiled = _tiled(hidden, num_chains, what)
    finish = completion(tiled)
    batch = tuple(
        tensor.nan_to_num(nan=0.0) if tensor.is_floating_point() else tensor for tensor in tiled.batch
    )
    current: dict[str, Tensor] | None = None
    accepted = torch.zeros(rows * num_chains, dtype=torch.float64, device=batch[0].device)
    rounds, asked = -(-num_samples // num_chains), 0
    kept: dict[Kept, list[Tensor]] = {}
    for number in range(warmup + rounds):
        with validation(False):
            proposed = draw_whole(tiled.pair.model, tiled.pair.guide, batch)
            if exact:
                refuse_point_mass(proposed, what)
                refuse_one_value(proposed, what)
                _refuse_auxiliary(proposed, what)
                _refuse_shared(proposed, what)
            particles = proposed
            if exact and current is not None and number >= warmup - warmup // 10:
                particles, taken = _accept(tiled, batch, current, proposed, what)
                accepted, asked = accepted + taken, asked + 1
        current = values_of(particles) if exact else None
        found = finish(with_sums(particles), 1)
        batch = tuple(
            found[("draw", place)][0] if ("draw", place) in found else tensor
            for place, tensor in enumerate(batch)
        )
        if number >= warmup:
            for name, value in found.items():
                kept.setdefault(name, []).append(value[0].reshape(num_chains, rows, *value.shape[2:]))
        advance(1)
    moves = accepted.reshape(num_chains, rows).mean(0)
    share = moves / max(asked, 1) if exact else torch.ones_like(moves)
    return GibbsDraws({name: torch.cat(each) for name, each in kept.items()}, share, moves), finish


def _refuse_auxiliary(particles: Particles, what: str) -> None:
    if auxiliary := auxiliary_names(particles.guide_trace):
        raise PairError(
            f"{what}: the guide makes its latents of the auxiliary sites {auxiliary}, and does not tell the "
            "density of latents from elsewhere, which the accept step needs: ask for method='hmc', or for "
            "'pseudo-gibbs', which has none"
        )


def _refuse_shared(particles: Particles, what: str) -> None:
    if particles.global_sites:
        raise PairError(
            f"{what}: each datum takes or leaves its latents by itself, and {list(particles.global_sites)} "
            "outside the plate 'data' are shared by all data: move them into the plate, or ask for "
            "method='pseudo-gibbs'"
        )


def _tiled(hidden: Hidden, count: int, what: str) -> Hidden:
    if count == 1:
        return hidden
    pair = hidden.pair
    if pair.fixed_rows is not None:
        raise PairError(
            f"{what}: the programs have parameters for each of their {pair.fixed_rows} data, so "
            f"several chains "
            "cannot run side by side: num_chains=1"
        )
    batch = tuple(tensor.repeat(count, *[1] * (tensor.dim() - 1)) for tensor in hidden.batch)
    masks = [mask.repeat(count, *[1] * (mask.dim() - 1)) for mask in hidden.hidden]
    return with_gaps(pair, batch, tuple(masks), what, hidden.completed)


def _accept(
    hidden: Hidden, batch: tuple[Tensor, ...], current: Mapping[str, Tensor], proposed: Particles, what: str
) -> tuple[Particles, Tensor]:
    """The particle at the latents that each datum keeps or takes, and which of them took the new ones."""
    try:
        before = replayed(hidden.pair, batch, current)
    except Exception as error:
        raise PairError(
            f"{what}: the guide does not tell the density of latents that it has not just drawn "
            f"({str(error).splitlines()[0][:200] if str(error) else type(error).__name__}), which the accept "
            "step needs: ask for method='hmc', or for 'pseudo-gibbs', which has none"
        ) from error
    change = (proposed.log_weight - before.log_weight)[0]
    taken = torch.rand(len(change)).to(change).log() < change.nan_to_num(nan=-torch.inf)
    new = values_of(proposed)
    chosen = {}
    for name, value in new.items():
        site = proposed.guide_trace.nodes[name]
        shape = site["fn"].batch_shape + site["fn"].event_shape
        wide = taken.reshape(-1, *[1] * site["fn"].event_dim)
        chosen[name] = torch.where(wide, value.expand(shape), current[name].expand(shape))
    return replayed(hidden.pair, batch, chosen), taken.double()
