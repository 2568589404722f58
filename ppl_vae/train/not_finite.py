"""NotFinite: a training's numbers that are NaN or infinite, and where they became so."""

from __future__ import annotations

import torch
from pyro import poutine
from torch import Tensor

from ppl_vae.core.density import has_density
from ppl_vae.core.isolation import validation
from ppl_vae.core.missing import is_clean, takes_missing
from ppl_vae.core.pair import Pair


class NotFinite(ArithmeticError):
    """A loss that is NaN or infinite, found before the parameters were moved."""


def name_bad_site(pair: Pair, batch: tuple[Tensor, ...]) -> str:
    """Where a pair's numbers first stop being finite on a batch: a parameter, or a site in order."""
    for name, parameter in pair.named_parameters():
        if not bool(parameter.isfinite().all()):
            return f"parameter {name}"
    with torch.no_grad(), validation(False):
        guide_trace = poutine.trace(pair.guide).get_trace(*batch)
        model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(*batch)
        for role, trace in (("guide", guide_trace), ("model", model_trace)):
            for name, site in trace.nodes.items():
                if site["type"] != "sample" or not isinstance(site["value"], Tensor):
                    continue
                if not is_clean(site["value"], takes_missing(site["fn"])):
                    return f"site {name!r} of the {role} (its value)"
                if not has_density(site["fn"]):
                    continue
                log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
                if not bool(torch.as_tensor(log_prob).isfinite().all()):
                    return f"site {name!r} of the {role} (its log-density)"
    return "no single site: the gradient"
