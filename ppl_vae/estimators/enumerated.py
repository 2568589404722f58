"""The evidence lower bound with the guide's finite sites summed over, not drawn."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Any, ClassVar

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from ppl_vae.core import drawing
from ppl_vae.core.finite import MOST_VALUES, values_of
from ppl_vae.core.isolation import eval_mode, random_numbers
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import DATA_PLATE, PARTICLE_PLATE, PairError, Program, Site, latent_names
from ppl_vae.core.terms import draw_log_prob, over_inner_plates
from ppl_vae.estimators.elbo import MeanFieldELBO
from ppl_vae.estimators.facts import Facts

_finite: weakref.WeakKeyDictionary[Any, dict[str, int]] = weakref.WeakKeyDictionary()


class EnumeratedELBO(MeanFieldELBO):
    r"""The evidence lower bound, summed over every value of the guide's finite sites y.

    .. math:: \mathcal{L}_i = \frac{1}{K} \sum_k \sum_y q(y \mid x_i)
        \bigl(\log p(x_i, y, z_{ky}) - \log q(y, z_{ky} \mid x_i)\bigr), \qquad z_{ky} \sim q(z \mid x_i, y)

    What `pyro.infer.TraceEnum_ELBO` computes for sites that the guide enumerates, here as plain tensor
    work: the values of y stand side by side among the particles, all combinations of them where there are
    several sites, and the terms come back averaged, (K, B). So there is no noise of y in the bound, no
    score function in its gradient, and the step can be captured; Pyro's Dice picks out the weights that
    are not zero, a shape that no captured step can know. The sites need no mark.

    Args:
        num_particles: K, the draws of the other sites for each value.
        closed_form: KL(q || p) of the other sites in closed form where there is one, given y.

    Raises:
        PairError: for a site of the guide that is neither reparameterised nor finite (4,096 values at most),
            that stands in a plate inside `data`, or outside of `data`.

    Kingma et al., Semi-supervised Learning with Deep Generative Models, arXiv:1406.5298.
    """

    handles_global_latents: ClassVar[bool] = False
    enumerates: ClassVar[bool] = True
    """Whether sites that are marked for enumeration are summed over."""
    facts = Facts("lower", paper="1406.5298")

    def __init__(self, num_particles: int = 1, closed_form: bool = False) -> None:
        super().__init__(num_particles)
        self.closed_form = closed_form

    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Particles:
        """K particles whose terms are averages over the finite sites."""
        sizes = finite_sites(guide, args, kwargs)
        count = self.num_particles * math.prod(sizes.values())
        particles = drawing.draw(
            model, guide, args, kwargs, num_particles=count, guide_handler=_EveryValue(sizes)
        )
        drawn = sorted(particles.non_reparameterised - set(sizes))
        if drawn:
            raise PairError(
                f"EnumeratedELBO sums over finite sites, and {drawn} of the guide are neither that, with "
                f"{MOST_VALUES} values at most, nor reparameterised. Use estimators.VIMCO, estimators.NVIL "
                "or pyro.infer.TraceEnum_ELBO"
            )
        return self._averaged(particles, sizes)

    def _averaged(self, particles: Particles, sizes: Mapping[str, int]) -> Particles:
        count = particles.num_particles
        nodes = particles.guide_trace.nodes
        log_probs = [draw_log_prob(nodes[name]) for name in sizes]
        if not log_probs:
            weight = particles.reconstruction.new_ones(()).expand_as(particles.reconstruction)
        else:
            # not the particles' own terms: a mask or a scale there must not change the weights
            weight = reduce(torch.add, [over_inner_plates(each, count) for each in log_probs]).exp()

        def average(term: Tensor) -> Tensor:
            term = term.expand_as(weight).where(weight > 0, 0.0) * weight  # 0 where q is 0, not 0 * -inf
            return term.unflatten(0, (self.num_particles, -1)).sum(1)

        def each(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {site: average(term) for site, term in terms.items()}

        closed_form: dict[str, Tensor | None] = {}
        for site in particles.latent_sites:
            known = particles.kl_closed_form(site) if self.closed_form and site not in sizes else None
            closed_form[site] = None if known is None else average(known)
        return replace(
            particles,
            log_likelihood=each(particles.log_likelihood),
            log_prior=each(particles.log_prior),
            log_guide=each(particles.log_guide),
            log_draw={},
            non_reparameterised=particles.non_reparameterised - set(sizes),
            _closed_form=closed_form,
        )

    def __repr__(self) -> str:
        return f"EnumeratedELBO(num_particles={self.num_particles}, closed_form={self.closed_form})"


def finite_sites(guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, int]:
    """The guide's finite sites and how many values each has, found by one run and then remembered.

    Raises:
        PairError: for one in a plate other than `data`, or outside of it.
    """
    if guide not in _finite:
        programs = [guide] if isinstance(guide, nn.Module) else []
        device = next((arg.device for arg in args if isinstance(arg, Tensor)), torch.device("cpu"))
        with torch.no_grad(), poutine.block(), eval_mode(*programs), random_numbers(0, device):
            trace = prune_subsample_sites(poutine.trace(guide).get_trace(*args, **kwargs))
        sites = {name: trace.nodes[name] for name in latent_names(trace)}
        _finite[guide] = {
            name: _num_values(name, site) for name, site in sites.items() if values_of(site["fn"]) is not None
        }
    return _finite[guide]


def _num_values(name: str, site: Site) -> int:
    plates = [frame.name for frame in site["cond_indep_stack"] if frame.name != PARTICLE_PLATE]
    if plates != [DATA_PLATE]:
        raise PairError(
            f"site {name!r} is finite and stands in the plates {plates}; EnumeratedELBO sums over sites "
            f"of the plate {DATA_PLATE!r} alone. Use pyro.infer.TraceEnum_ELBO"
        )
    values = values_of(site["fn"])
    assert values is not None
    return len(values)


class _EveryValue(Messenger):
    """Give the guide's finite sites all combinations of their values, one a particle, again and again."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = sizes

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.sizes or msg["done"]:
            return
        fn, names = msg["fn"], list(self.sizes)
        repeats = math.prod(self.sizes[name] for name in names[names.index(msg["name"]) + 1 :])
        # (E, 1, ..., 1, *event) with one 1 for each batch dim; the first of these is the particles' own
        values = values_of(fn)
        assert values is not None
        values = values.flatten(0, 1).repeat_interleave(repeats, 0)
        if len(values) > 1:
            values = values.repeat(fn.batch_shape[0] // len(values), *[1] * (values.dim() - 1))
        msg["value"] = values.expand(fn.batch_shape + fn.event_shape)
        msg["done"] = True
