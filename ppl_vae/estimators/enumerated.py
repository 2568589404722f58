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
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from ppl_vae.core import drawing
from ppl_vae.core.finite import MOST_VALUES, values_of
from ppl_vae.core.isolation import eval_mode, random_numbers
from ppl_vae.core.particles import Particles
from ppl_vae.core.plates import inner_plates
from ppl_vae.core.sites import PairError, Program, Site, data_frame, is_bookkeeping, latent_names
from ppl_vae.core.slices import refuse_across
from ppl_vae.core.terms import draw_log_prob, in_slices, log_prob, over_inner_plates, transformed
from ppl_vae.estimators.elbo import MeanFieldELBO
from ppl_vae.estimators.facts import Facts

MOST_COMBINATIONS = 2**16
"""More combinations of the guide's finite values than these are not laid side by side."""

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

    A site in an inner plate is summed over in each slice by itself, all slices at once, which is exact where
    nothing looks across slices or at all of them from outside; that is tried out on the first batch. What
    the guide draws before a finite site is drawn once for all of its values. Finite sites that the model
    alone has are summed over under every estimator.

    Raises:
        PairError: for a site of the guide that is neither reparameterised nor finite (4,096 values at most),
            that stands outside of `data`, or whose values have too many combinations.

    Kingma et al., Semi-supervised Learning with Deep Generative Models, arXiv:1406.5298.
    """

    handles_global_latents: ClassVar[bool] = False
    needs_density: ClassVar[bool] = True
    enumerates: ClassVar[bool] = True
    """Whether sites that are marked for enumeration are summed over."""
    facts = Facts("lower", paper="1406.5298")

    def __init__(self, num_particles: int = 1, closed_form: bool = False) -> None:
        super().__init__(num_particles)
        self.closed_form = closed_form

    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Particles:
        """K particles whose terms are averages over the finite sites."""
        sizes = finite_sites(guide, args, kwargs)
        combinations = math.prod(sizes.values())
        if combinations > MOST_COMBINATIONS:
            raise PairError(
                f"EnumeratedELBO sums over all values of {list(sizes)} together, and they have "
                f"{combinations:,} combinations, more than {MOST_COMBINATIONS:,}. Leave them out of the "
                "guide, so that the model sums over them one after the other (a chain within pyro.markov), "
                "or draw them, under estimators.VIMCO or estimators.NVIL; pyro.infer.TraceEnum_ELBO sums "
                "over a chain in the guide"
            )
        particles = drawing.draw(
            model,
            guide,
            args,
            kwargs,
            num_particles=self.num_particles * combinations,
            guide_handler=_EveryValue(sizes),
        )
        drawn = sorted(particles.non_reparameterised - set(sizes))
        if drawn:
            raise PairError(
                f"EnumeratedELBO sums over finite sites, and {drawn} of the guide are neither that, with "
                f"{MOST_VALUES} values at most, nor reparameterised. Use estimators.VIMCO, estimators.NVIL "
                "or pyro.infer.TraceEnum_ELBO"
            )
        nodes = {name: particles.guide_trace.nodes[name] for name in sizes}
        if not any(map(inner_plates, nodes.values())):
            return self._averaged(particles, sizes)
        order = latent_names(particles.guide_trace)
        carriers = {  # what is drawn after a finite site in its plate hangs on it
            later: name
            for name in sizes
            for later in order[order.index(name) + 1 :]
            if later not in sizes
            and not inner_plates(nodes[name])
            .keys()
            .isdisjoint(inner_plates(particles.guide_trace.nodes[later]))
        }
        refuse_across(nodes, model, guide, args, kwargs, carriers)
        return self._averaged_in_slices(particles, nodes)

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
            return self._over_values(_weighted(term.expand_as(weight), weight))

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

    def _averaged_in_slices(self, particles: Particles, finite: Mapping[str, Site]) -> Particles:
        """The same where values stand in inner plates: every slice has the weight of its own value."""
        count, depth = particles.num_particles, particles.depth
        plates = {name: set(inner_plates(site)) for name, site in finite.items()}
        probability = {
            name: in_slices(draw_log_prob(site), site, count, depth, plain=True).exp()
            for name, site in finite.items()
        }

        def average(site: Site, term: Tensor) -> Tensor:
            weight = torch.ones((), dtype=term.dtype, device=term.device)
            for name, each in probability.items():
                # a term outside a plate is the same for every value in it
                inside = plates[name] <= set(inner_plates(site))
                values = values_of(finite[name]["fn"])
                assert values is not None
                weight = weight * (each if inside else 1 / len(values))
            return self._over_values(_weighted(term, weight).flatten(1, -2).sum(1))

        def each(trace: Trace, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: average(site, in_slices(log_prob(site), site, count, depth))
                for name in terms
                for site in [trace.nodes[name]]
            }

        if particles.under_sum:
            raise PairError(
                f"EnumeratedELBO sums over {sorted(finite)} of the guide in the slices of a plate, and the "
                f"model sums over finite sites of its own that {sorted(particles.under_sum)} depend on: "
                "leave them all out of the guide, or none"
            )
        return replace(
            particles,
            log_likelihood=each(particles.model_trace, particles.log_likelihood),
            log_prior=each(particles.model_trace, particles.log_prior),
            log_guide=each(particles.guide_trace, particles.log_guide),
            log_draw={},
            non_reparameterised=particles.non_reparameterised - set(finite),
            _closed_form=dict.fromkeys(particles.latent_sites),
        )

    def _over_values(self, term: Tensor) -> Tensor:
        """(K, B) of (K times the combinations, B)."""
        return term.unflatten(0, (self.num_particles, -1)).sum(1)

    def __repr__(self) -> str:
        return f"EnumeratedELBO(num_particles={self.num_particles}, closed_form={self.closed_form})"


def finite_sites(guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, int]:
    """The guide's finite sites and how many values each has, found by one run and then remembered.

    Raises:
        PairError: for one outside of `data`.
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
    if data_frame(site) is None:
        raise PairError(
            f"site {name!r} of the guide is finite and stands outside the plate of the data, so that all "
            "data share its value; EnumeratedELBO sums for each datum. Use estimators.ELBO, or "
            "pyro.infer.TraceEnum_ELBO"
        )
    values = values_of(site["fn"])
    assert values is not None
    return len(values)


def _weighted(term: Tensor, weight: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(term.shape, weight.shape)
    return term.expand(shape).where(weight > 0, 0.0) * weight  # 0 where q is 0, not 0 * -inf


class _EveryValue(Messenger):
    """Give the guide's finite sites all combinations of their values, one a particle, again and again."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = sizes
        self._to_come = math.prod(sizes.values())

    def _pyro_post_sample(self, msg: Any) -> None:
        """What is drawn before a finite site is one draw for all of its values."""
        if msg["name"] in self.sizes:
            self._to_come //= self.sizes[msg["name"]]
        elif (
            self._to_come > 1
            and not msg["is_observed"]
            and not is_bookkeeping(msg)
            and data_frame(msg) is not None
            and transformed(msg["fn"]) is None  # a flow knows the density of its own draw alone
        ):
            blocks = msg["value"].unflatten(0, (-1, self._to_come))
            msg["value"] = blocks[:, :1].expand(blocks.shape).flatten(0, 1)

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
