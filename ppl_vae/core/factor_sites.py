"""Factors: terms of a program's density that belong to no draw."""

from __future__ import annotations

from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_factor

from ppl_vae.core.sites import is_deterministic


def factor_names(trace: Trace) -> list[str]:
    """The `pyro.factor` statements of a program, in order."""
    return [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and site_is_factor(site) and not is_deterministic(site)
    ]
