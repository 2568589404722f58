"""What an estimator learns beside the pair, a baseline or a control variate, and shares with it perhaps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.func import functional_call

from ppl_vae.core.particles import Particles


def apart(module: nn.Module, particles: Particles) -> Callable[..., Tensor]:
    """A network of an estimator's, in which what it shares with the pair is held fixed.

    It learns something else than the bound, and its gradient would be added to the pair's.
    """
    held = parameters_of(particles)
    shared = {name: each.detach() for name, each in module.named_parameters() if id(each) in held}
    return partial(functional_call, module, shared) if shared else module


def parameters_of(particles: Particles) -> set[int]:
    """The identities of the parameters of both programs, of Modules and of Pyro's `param` statements."""
    programs = [] if particles.programs is None else particles.programs[:2]
    found = {id(each) for one in programs if isinstance(one, nn.Module) for each in one.parameters()}
    for trace in (particles.model_trace, particles.guide_trace):
        for site in trace.nodes.values():
            if site["type"] == "param":
                found.add(id(site["value"]))
    return found
