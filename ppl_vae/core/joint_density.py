"""The joint density of data and a latent that is chosen, for guides that climb it or move along it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from ppl_vae.core.drawing import read
from ppl_vae.core.isolation import eval_mode, random_numbers
from ppl_vae.core.summing import run_at_all_values, sums_over


def log_joint(model: nn.Module, site: str, z: Tensor, batch: Sequence[Tensor]) -> Tensor:
    """(S, B): log p(x, z) of a model at S values of its latent for each datum, apart from all handlers.

    Finite latents that it has beside are summed over.

    Args:
        model: whose one latent site that is not summed over it is.
        site: its name.
        z: (S, B, *event).
        batch: what the model is called with, each tensor (B, ...).

    Raises:
        PairError: for a model with further latent sites; names them.
    """
    repeated = [item.repeat(len(z), *[1] * (item.dim() - 1)) for item in batch]
    given = {site: z.flatten(0, 1)}
    conditioned = poutine.condition(model, data=given)
    with poutine.block(), eval_mode(model):
        kinds = _sums.setdefault(model, {})
        if not (known := kinds.get(len(batch))):
            # what the first run draws of sites that are to be summed over must not count
            with random_numbers(0, z.device) if known is None else nullcontext():
                trace = poutine.trace(conditioned).get_trace(*repeated)
            if known is None:
                known = kinds[len(batch)] = _to_sum(trace)
        if known:
            trace = run_at_all_values(model, known.names, given, repeated, -known.depth - 1)
    return read(trace, Trace(), num_particles=1).reconstruction.view(len(z), -1)


@dataclass(frozen=True)
class _ToSum:
    """The finite sites of a model that are left, and how many dims its plates take."""

    names: tuple[str, ...]
    depth: int

    def __bool__(self) -> bool:
        return bool(self.names)


def _to_sum(trace: Trace) -> _ToSum:
    frames = [frame for site in trace.nodes.values() for frame in site.get("cond_indep_stack", ())]
    depth = max((-frame.dim for frame in frames if frame.dim is not None), default=1)
    return _ToSum(tuple(sums_over(trace, Trace())), depth)


_sums: weakref.WeakKeyDictionary[nn.Module, dict[int, _ToSum]] = weakref.WeakKeyDictionary()
"""What each model sums over beside its latent, by the number of tensors, as its first run has shown."""
