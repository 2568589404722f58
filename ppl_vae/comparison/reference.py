"""What estimators at a point are held against: the evidence and its gradient, and the gradient of a bound."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import pyro.infer
import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from ppl_vae import evaluate
from ppl_vae.capture.function import Capture
from ppl_vae.comparison.gradients import GradientSampler, layout_of
from ppl_vae.comparison.moments import Moments
from ppl_vae.core.isolation import eval_mode, questioning
from ppl_vae.core.known_evidence import KnowsEvidence
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import log_mean_exp
from ppl_vae.estimators import ELBO, IWAE, VIMCO, DReG, Estimator, MeanFieldELBO, Renyi, ours
from ppl_vae.testing.site_facts import read_sites


@dataclass(frozen=True)
class Evidence:
    """log p(x) of a batch, the mean over its data in nats, and its gradient in the model's parameters.

    Attributes:
        value, standard_error: of log p(x); the error is zero where it is exact, and nan where
            `is_lower_bound`.
        source: where they come from.
        gradient: (P_model,).
        moments: the draws that `gradient` comes from; None where it is exact.
        gradient_source: where it comes from.
    """

    value: float
    standard_error: float
    source: str
    gradient: Tensor
    moments: Moments | None
    gradient_source: str
    is_lower_bound: bool = False
    """k-hat does not let the estimate stand: see `evaluate.log_likelihood`."""


def evidence_of(
    pair: Pair,
    batch: tuple[Tensor, ...],
    num_particles: int,
    draws: int,
    seed: int,
    capture: Capture = False,
) -> Evidence:
    """The exact evidence where the model has `log_evidence(*batch)`, (B,), else by importance sampling.

    Args:
        num_particles: K of the importance sampling.
        draws: gradients of the IWAE with that K to be averaged, where there is no exact one.
        capture: see `GradientSampler`.
    """
    layout = layout_of(pair)
    model = [p for name, p in zip(layout.names, layout.parameters) if name.startswith("model.")]
    if outside := read_sites(pair, batch).outside_data:
        why = f"unknown: {', '.join(outside)} outside the plate 'data'"
        return Evidence(math.nan, math.nan, why, torch.full((layout.size["model"],), math.nan), None, why)
    if isinstance(pair.model, KnowsEvidence):
        with eval_mode(pair), torch.enable_grad():
            value = pair.model.log_evidence(*batch).mean()
            gradients = torch.autograd.grad(value, model, allow_unused=True) if model else ()
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(model, gradients, strict=True)]
        gradient = torch.cat([g.flatten() for g in flat]).double() if flat else torch.zeros(0).double()
        return Evidence(value.item(), 0.0, "exact", gradient, None, "exact")
    estimate = evaluate.log_likelihood(
        pair, batch, num_particles, seed=seed + 1, progress=False, capture=capture
    )
    source = f"importance sampling, K = {num_particles:,}"
    size = min(num_particles, 1000)
    moments = sample_moments(GradientSampler(pair, IWAE(size), batch, capture), draws, seed + 2)[1]
    moments = moments.part(layout.part("model"))
    error = estimate.monte_carlo_standard_error
    if estimate.is_lower_bound:
        source += f": {estimate.why_lower_bound}"
    of_gradient = f"IWAE, K = {size:,}, mean of {draws:,} draws"
    return Evidence(
        estimate.value, error, source, moments.mean, moments, of_gradient, estimate.is_lower_bound
    )


@dataclass(frozen=True)
class Reference:
    """The gradient of an estimator's own expected bound, from many draws of an unbiased estimator of it."""

    moments: Moments
    source: str


class References:
    """The references of one K; estimators of the same bound share one.

    Args:
        pair, batch: where the gradients are taken.
        draws: how many; 0 for no references.
        seed: of the draws, which are independent of those that are compared.
        capture: see `GradientSampler`.
    """

    def __init__(
        self, pair: Pair, batch: tuple[Tensor, ...], draws: int, seed: int, capture: Capture = False
    ) -> None:
        self.pair, self.batch, self.draws, self.seed = pair, batch, draws, seed
        self.capture: Capture = capture
        self._known: dict[str, Reference] = {}

    def of(self, estimator: PyroELBO) -> Reference | None:
        """The reference of an estimator; None where there is none."""
        unbiased = unbiased_twin(self.pair, estimator, self.batch) if self.draws else None
        if unbiased is None:
            return None
        key = repr(unbiased)
        if key not in self._known:
            sampler = GradientSampler(self.pair, unbiased, self.batch, self.capture)
            moments = sample_moments(sampler, self.draws, self.seed)[1]
            self._known[key] = Reference(moments, f"{key}, mean of {self.draws:,} draws")
        return self._known[key]


def unbiased_twin(pair: Pair, estimator: PyroELBO, batch: tuple[Tensor, ...]) -> Estimator | None:
    """An estimator of the same bound with an unbiased gradient for both programs;
    None where none is known.
    """
    size = int(estimator.num_particles)
    own = ours(estimator)
    if own is None:
        return _twin_of_pyros(estimator, size)
    estimator = own
    with questioning(pair, 0, pair.device):
        particles = estimator.draw(pair.model, pair.guide, *batch)
        bound = copy.deepcopy(estimator).bound(particles)
        log_weight = particles.log_weight
        weighted = torch.allclose(bound, log_mean_exp(log_weight))
        averaged = torch.allclose(bound, log_weight.mean(0))
        closed_form = torch.allclose(bound, MeanFieldELBO(size).bound(particles))
    if len(log_weight) != size:
        return _plain(estimator)  # it draws a number of its own
    if particles.global_sites:
        # `bound` is the data's part alone, so that only the kind tells what is added to it
        return MeanFieldELBO(size) if isinstance(estimator, MeanFieldELBO) else ELBO(size)
    if averaged:
        # DReG of one particle has the least noise, and is the gradient of the ELBO
        return ELBO(size) if size > 1 or particles.non_reparameterised else DReG(1)
    if weighted:
        return VIMCO(size) if particles.non_reparameterised else DReG(size)
    return MeanFieldELBO(size) if closed_form else _plain(estimator)


def _twin_of_pyros(estimator: Any, size: int) -> Estimator | None:
    if isinstance(estimator, pyro.infer.RenyiELBO):
        return Renyi(alpha=float(estimator.alpha), num_particles=size)
    if isinstance(estimator, pyro.infer.TraceMeanField_ELBO):
        return MeanFieldELBO(size)
    if isinstance(estimator, pyro.infer.TraceTailAdaptive_ELBO):
        return None
    return ELBO(size) if isinstance(estimator, pyro.infer.Trace_ELBO | pyro.infer.TraceGraph_ELBO) else None


def _plain(estimator: Estimator) -> Estimator:
    """A copy whose gradient is that of the expected bound: pathwise, and the score function's."""
    kind = type(estimator)
    twin = copy.deepcopy(estimator)
    twin.__class__ = type(
        f"plain {kind.__name__}", (kind,), {"surrogate": Estimator.surrogate, "separates": False}
    )
    return twin


def sample_moments(sampler: GradientSampler, draws: int, seed: int) -> tuple[Tensor, Moments]:
    """The bound of each draw, (D,) in float64, and the moments of its gradient."""
    moments = Moments.empty(sampler.layout.total, draws, sampler.pair.device)
    bounds: list[Tensor] = []
    for drawn in sampler.draw(draws, seed):
        moments.add(drawn.gradient, sum(map(len, bounds)))
        bounds.append(drawn.bound.double())
    return torch.cat(bounds), moments
