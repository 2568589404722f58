"""Models whose draws do not follow their density."""

from __future__ import annotations

import math

import torch
from pyro.poutine.trace_struct import Trace

from ppl_vae.core.factor_sites import factor_names
from ppl_vae.core.sites import PairError
from ppl_vae.core.terms import ratio
from ppl_vae.queries.handlers import sample_sites


def refuse_factors(trace: Trace) -> None:
    """Raise PairError for a model with `pyro.factor`, which its draws know nothing of."""
    if factors := factor_names(trace):
        raise PairError(
            f"the model's density has the factors {factors}, and its draws do not follow them, so they are "
            f"no data of the model: write them as pyro.sample statements"
        )


def refuse_scales(trace: Trace) -> None:
    """Raise PairError where a scale makes the density another one than that of the draws."""
    for name, site in sample_sites(trace).items():
        by_plates = math.prod(ratio(frame) for frame in site["cond_indep_stack"])
        scale = torch.as_tensor(site["scale"], dtype=torch.float64)
        if not bool(torch.isclose(scale, torch.full_like(scale, by_plates)).all()):
            raise PairError(
                f"site {name!r} stands under poutine.scale, so that the model's density is not that of its "
                f"draws, and their posterior is not what the guide learns: calibrate it without"
            )
