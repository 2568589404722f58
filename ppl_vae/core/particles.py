"""Particles: the log-likelihood, log-prior and log-guide of K draws from the guide, per datum and site."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from pyro.distributions import Delta, MaskedDistribution
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from ppl_vae.core.density import has_density, no_divergence
from ppl_vae.core.sites import PARTICLE_PLATE, PairError, before, without_data_plate
from ppl_vae.core.stacked import stack
from ppl_vae.core.terms import own_masks, reduced


@dataclass(frozen=True)
class Particles:
    r"""K particles of a batch of B data: z_k ~ q(z | x), and every term of their log-weights.

    .. math:: \log w_{ki} = \log p(x_i \mid z_{ki}) +
        \sum_s \beta_s \bigl(\log p(z^s_{ki}) - \log q(z^s_{ki} \mid x_i)\bigr)

    Inner plates are summed, masks and a user's own `poutine.scale` are inside the terms; the factor
    N/B of a subsampled `data` plate is kept apart in `scale`. Everything is in nats.

    Attributes:
        log_likelihood: (K, B) by observed site.
        log_prior: (K, B) by latent site of the model inside the `data` plate.
        log_guide: (K, B) by site of the guide inside the `data` plate.
        global_log_prior, global_log_guide: (K,) by site outside the `data` plate.
        scale: N/B, the factor on each datum's bound.
        subsample: (B,) the numbers of these data among the N of a plate that drew them; None elsewhere.
        non_reparameterised: the guide's sites whose draws carry no pathwise gradient.
        log_draw, global_log_draw: `log_guide` and `global_log_guide` without masks and scales, (K, B) and
            (K,) by drawn site: how likely the draws themselves were. The score function is theirs.
        kl_weight: beta by latent site; 1 where absent. It makes `log_weight` a training objective,
            not an importance weight.
        under_sum: the model's sites that depend on finite ones which it sums over; the term of each is its
            log-density given the sites before it in the model, those sums taken, see `summing.summed_terms`.
        args: what the programs were called with.
        programs: model, guide, and the positional and the named arguments; None for particles of two traces.
        singles: the particles one by one, where the programs do not run with K at once; empty elsewhere.
        model_trace, guide_trace: the Pyro traces that all of this was read from.
    """

    log_likelihood: Mapping[str, Tensor]
    log_prior: Mapping[str, Tensor]
    log_guide: Mapping[str, Tensor]
    global_log_prior: Mapping[str, Tensor]
    global_log_guide: Mapping[str, Tensor]
    scale: float
    non_reparameterised: frozenset[str]
    model_trace: Trace
    guide_trace: Trace
    kl_weight: Mapping[str, Tensor | float] = field(default_factory=dict)
    log_draw: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    global_log_draw: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    subsample: Tensor | None = field(default=None, repr=False)
    under_sum: frozenset[str] = field(default=frozenset(), repr=False)
    args: tuple[Any, ...] = field(default=(), repr=False)
    programs: tuple[Any, ...] | None = field(default=None, repr=False)
    singles: tuple[Particles, ...] = field(default=(), repr=False)
    _closed_form: dict[str, Tensor | None] = field(default_factory=dict, repr=False, compare=False)

    def with_kl_weight(self, kl_weight: Mapping[str, Tensor | float]) -> Particles:
        """The same particles under other KL weights, by latent site."""
        unknown = set(kl_weight) - set(self.latent_sites) - set(self.global_sites)
        if unknown:
            raise PairError(
                f"kl weight for {sorted(unknown)}, but the latent sites are {list(self.latent_sites)}"
            )
        return replace(self, kl_weight=kl_weight)

    @property
    def num_particles(self) -> int:
        """K."""
        return int(self._any.shape[0])

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self._any.shape[-1])

    @cached_property
    def depth(self) -> int:
        """How many dims the plates of both programs take, without that of the particles."""
        return max(
            [
                -frame.dim
                for trace in (self.model_trace, self.guide_trace)
                for site in trace.nodes.values()
                if site["type"] == "sample"
                for frame in site["cond_indep_stack"]
                if frame.dim is not None and frame.name != PARTICLE_PLATE
            ],
            default=1,
        )

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """The latent sites inside the `data` plate, in the guide's order, then the model's."""
        return tuple(dict.fromkeys([*self.log_guide, *self.log_prior]))

    @property
    def global_sites(self) -> tuple[str, ...]:
        """The sites outside the `data` plate."""
        return tuple(dict.fromkeys([*self.global_log_guide, *self.global_log_prior]))

    def densities(self, kind: str) -> dict[str, Tensor]:
        """The terms of one kind, such as "log_prior", by site, but of sites whose density cannot be had."""
        of_model = kind.endswith(("prior", "likelihood"))
        nodes = (self.model_trace if of_model else self.guide_trace).nodes
        terms: Mapping[str, Tensor] = getattr(self, kind)
        return {site: terms[site] for site in terms if has_density(nodes[site]["fn"])}

    @property
    def without_density(self) -> tuple[str, ...]:
        """The latent sites whose density cannot be had in one of the programs: see `density.has_density`."""
        traces = (self.guide_trace, self.model_trace)
        return tuple(
            site
            for site in (*self.latent_sites, *self.global_sites)
            if not all(has_density(trace.nodes[site]["fn"]) for trace in traces if site in trace.nodes)
        )

    @property
    def _any(self) -> Tensor:
        for terms in (self.log_likelihood, self.log_guide, self.log_prior):
            for term in terms.values():
                return term
        raise PairError(without_data_plate("neither program has a site", self.model_trace, self.guide_trace))

    @cached_property
    def reconstruction(self) -> Tensor:
        """(K, B): the log-likelihood summed over the observed sites."""
        return _total(self.log_likelihood.values(), torch.zeros_like(self._any))

    @cached_property
    def log_weight(self) -> Tensor:
        """(K, B): log p(x, z) - log q(z | x) of each particle and datum."""
        total = self.reconstruction
        for site in self.latent_sites:
            total = total - self._weighted(site, self.kl_sample(site))
        return total

    @cached_property
    def global_log_weight(self) -> Tensor | None:
        """(K,): log p - log q of the latents outside the `data` plate; None where there are none."""
        terms = [-self._weighted(site, self.kl_sample(site)) for site in self.global_sites]
        return _total(terms) if terms else None

    def kl_sample(self, site: str) -> Tensor:
        """(K, B), or (K,) for a global site: log q - log p at the particles; its mean is the site's KL."""
        if site in self.global_sites:
            prior, guide = self.global_log_prior.get(site), self.global_log_guide.get(site)
        else:
            prior, guide = self.log_prior.get(site), self.log_guide.get(site)
        if guide is None:
            assert prior is not None
            return -prior
        return guide if prior is None else guide - prior

    def kl(self, site: str) -> Tensor:
        r"""(K, B): KL(q || p) of one latent site in closed form, or `kl_sample` where there is none."""
        closed_form = self.kl_closed_form(site)
        if closed_form is None and site in self.without_density:
            raise PairError(
                no_divergence(self.guide_trace.nodes.get(site), self.model_trace.nodes.get(site), site)
            )
        return self.kl_sample(site) if closed_form is None else closed_form

    def kl_at_hand(self, site: str) -> Tensor:
        """(K, B): `kl` where the closed form has been computed already, else `kl_sample`."""
        closed_form = self._closed_form.get(site)
        return self.kl_sample(site) if closed_form is None else closed_form

    def kl_closed_form(self, site: str) -> Tensor | None:
        """(K, B), or (K,) for a global site: KL(q || p) as `torch.distributions.kl` has it, or None.

        None too where it would be wrong: where the prior is a sum over finite sites; where a mask
        or a user's scale differs between the two programs, since then no single factor belongs to the
        divergence; and where the model draws something before the site that the guide draws after it, since
        the prior then looks at draws that have already seen the site's own.
        """
        if site not in self._closed_form:
            self._closed_form[site] = self._kl_closed_form(site)
        return self._closed_form[site]

    def _kl_closed_form(self, site: str) -> Tensor | None:
        if self.singles:
            each = [single.kl_closed_form(site) for single in self.singles]
            known = [term for term in each if term is not None]
            return torch.cat(known) if len(known) == len(each) else None
        divergence = self.divergence(site)
        if divergence is None:
            return None
        return reduced(divergence, self.guide_trace.nodes[site], self.num_particles)

    def divergence(self, site: str) -> Tensor | None:
        """Of the site's batch shape: `kl_closed_form` before its mask, its scale and the sum over plates."""
        if site in self.under_sum:
            return None
        if self.singles:
            rows = [single.divergence(site) for single in self.singles]
            known = [row for row in rows if row is not None]
            if len(known) < len(rows):
                return None
            return stack(known, -len(self.guide_trace.nodes[site]["fn"].batch_shape))
        if any(site not in trace.nodes for trace in (self.guide_trace, self.model_trace)):
            return None
        guide_site = self.guide_trace.nodes[site]
        model_site = self.model_trace.nodes[site]
        if not all(_same(guide_site[factor], model_site[factor]) for factor in ("mask", "scale")):
            return None
        masks = [own_masks(each["fn"]) for each in (guide_site, model_site)]
        if len(masks[0]) != len(masks[1]) or not all(_same(*both) for both in zip(*masks)):
            return None
        if not before(self.model_trace, site) <= before(self.guide_trace, site):
            return None
        if isinstance(_innermost(guide_site["fn"]), Delta):
            return None  # Pyro's forgets the Delta's own log-density, which an autoguide puts there
        try:
            divergence: Tensor = kl_divergence(guide_site["fn"], model_site["fn"])
        except NotImplementedError:
            return None
        return divergence

    def weighted_kl(self, site: str) -> Tensor:
        """(K, B): `kl(site)` times the site's KL weight."""
        return self._weighted(site, self.kl(site))

    def _weighted(self, site: str, term: Tensor) -> Tensor:
        weight = self.kl_weight.get(site)
        return term if weight is None else weight * term

    @cached_property
    def score(self) -> Tensor | None:
        """(K, B): log q of the draws without a pathwise gradient; None where every site has one.

        The draws' own density: neither a scale nor a mask changes how a draw came about, nor what it moves.
        """
        return self.score_of(self.log_draw)

    def score_of(self, sites: Iterable[str]) -> Tensor | None:
        """(K, B): the same over some of the sites."""
        terms = [self.log_draw[s] for s in sites if s in self.non_reparameterised]
        return _total(terms) if terms else None

    @cached_property
    def global_score(self) -> Tensor | None:
        """(K,): the same for the latents outside the `data` plate."""
        terms = [self.global_log_draw[s] for s in self.global_log_draw if s in self.non_reparameterised]
        return _total(terms) if terms else None


def _innermost(fn: Any) -> Any:
    while isinstance(fn, Independent | MaskedDistribution):
        fn = fn.base_dist
    return fn


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    """log of the mean of exp(values) along `dim`, without overflow."""
    return torch.logsumexp(values, dim) - math.log(values.shape[dim])


def _total(terms: Iterable[Tensor], start: Tensor | None = None) -> Tensor:
    total = None
    for term in terms:
        total = term if total is None else total + term
    if total is None:
        assert start is not None
        return start
    return total


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        # identity first: comparing values would make a GPU wait
        return first is second or (first.shape == second.shape and bool((first == second).all()))
    return first is second or (not isinstance(first, Tensor) and first == second)
