"""Particles one by one: for programs that cannot run with K of them at once, K runs joined as if they had."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.core.arguments import within_handlers
from ppl_vae.core.particles import Particles
from ppl_vae.core.program import ProgramModule
from ppl_vae.core.sites import PARTICLE_PLATE, Program
from ppl_vae.core.stacked import Stacked, stack
from ppl_vae.core.terms import Lazily

NOT_ONE_BY_ONE = (
    "this estimator chooses the draws of several particles that run at once, and the pair's programs take "
    "theirs one by one: let its nets take (K, B, ...), or use another estimator, such as estimators.VIMCO "
    "for discrete sites"
)


def runs_one_by_one(*programs: Program, tell: bool = True) -> bool:
    """Whether one of these programs takes its particles one after the other; the first time it is said."""
    inside = [within_handlers(program) for program in programs]
    slow = [each for each in inside if isinstance(each, ProgramModule) and each.one_by_one is not None]
    for program in slow if tell else ():
        if program.one_by_one:
            warnings.warn(
                f"the pair's particles are drawn one by one, K of them in K times the time, since its "
                f"programs cannot run with several at once: {program.one_by_one}. Nets that take (K, B, ...) "
                "avoid that; Pair(model, guide, vectorize=False) says that it is known",
                stacklevel=2,
            )
            for each in slow:
                each.one_by_one = ""
    return bool(slow)


class SameRows(Messenger):
    """Within it a plate that subsamples takes the same data in every run."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) and msg["name"] in self.rows:
            msg["value"] = self.rows[msg["name"]]

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            self.rows[msg["name"]] = msg["value"]


def joined(singles: Sequence[Particles], plate_dim: int) -> Particles:
    """K particles of as many runs, each of one."""
    first = singles[0]

    def each(name: str) -> dict[str, Tensor]:
        return {site: torch.cat([getattr(s, name)[site] for s in singles]) for site in getattr(first, name)}

    def later(name: str) -> Lazily:
        terms = Lazily()
        for site in getattr(first, name):
            terms.promise(site, lambda site=site: torch.cat([getattr(s, name)[site] for s in singles]))  # type: ignore[misc]
        return terms

    return replace(
        first,
        log_likelihood=each("log_likelihood"),
        log_prior=later("log_prior"),
        log_guide=later("log_guide"),
        global_log_prior=each("global_log_prior"),
        global_log_guide=each("global_log_guide"),
        log_draw=later("log_draw"),
        global_log_draw=later("global_log_draw"),
        model_trace=merged([single.model_trace for single in singles], plate_dim),
        guide_trace=merged([single.guide_trace for single in singles], plate_dim),
        programs=None,
        singles=tuple(singles),
    )


class Several(Trace):
    """The trace of several particles that ran one by one, with the trace of each."""

    def __init__(self, singles: Sequence[Trace]) -> None:
        super().__init__()
        self.singles = list(singles)


def merged(traces: Sequence[Trace], plate_dim: int) -> Several:
    """One trace of K runs, as a plate of particles at `plate_dim` would have given it.

    Raises:
        KeyError: where the runs have different sites.
    """
    whole = Several(traces)
    frame = CondIndepStackFrame(PARTICLE_PLATE, plate_dim, len(traces), 0)
    for name, site in traces[0].nodes.items():
        node = dict(site)
        if site["type"] == "sample" and not site_is_subsample(site):
            nodes = [trace.nodes[name] for trace in traces]
            node["fn"] = Stacked([each["fn"] for each in nodes], plate_dim)
            node["cond_indep_stack"] = (*site["cond_indep_stack"], frame)
            event_dim = site["fn"].event_dim
            node["value"] = stack([each["value"] for each in nodes], plate_dim, event_dim)
            for factor in ("mask", "scale"):
                if any(isinstance(each[factor], Tensor) for each in nodes):
                    node[factor] = stack([torch.as_tensor(each[factor]) for each in nodes], plate_dim)
            node.pop("log_prob", None)
        whole.add_node(name, **{key: value for key, value in node.items() if key != "name"}, name=name)
    return whole
