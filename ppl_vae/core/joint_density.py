"""The joint density of data and a latent that is chosen, for guides that climb it or move along it."""

from __future__ import annotations

from collections.abc import Sequence

from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from ppl_vae.core.drawing import read
from ppl_vae.core.isolation import eval_mode


def log_joint(model: nn.Module, site: str, z: Tensor, batch: Sequence[Tensor]) -> Tensor:
    """(S, B): log p(x, z) of a model at S values of its one latent for each datum, apart from all handlers.

    Args:
        model: whose one latent site it is.
        site: its name.
        z: (S, B, *event).
        batch: what the model is called with, each tensor (B, ...).

    Raises:
        PairError: for a model with further latent sites; names them.
    """
    repeated = [item.repeat(len(z), *[1] * (item.dim() - 1)) for item in batch]
    conditioned = poutine.condition(model, data={site: z.flatten(0, 1)})
    with poutine.block(), eval_mode(model):
        trace = poutine.trace(conditioned).get_trace(*repeated)
    return read(trace, Trace(), num_particles=1).reconstruction.view(len(z), -1)
