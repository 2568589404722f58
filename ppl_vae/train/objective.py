"""Objective: a pair and an estimator as one module, from a batch to a loss and the terms that a run logs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pyro.infer import ELBO as PyroELBO
from pyro.infer import TraceTailAdaptive_ELBO
from torch import Tensor, nn

from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.subsampling import check_rows, seen_by
from ppl_vae.estimators import ELBO, auxiliary_of, ours
from ppl_vae.kl import Penalty

Terms = dict[str, Tensor]


def terms_of(particles: Particles) -> Terms:
    """The true ELBO, its reconstruction term and the KL of each site: sums over the batch, in nats.

    Whatever is being optimised, these are what a run logs; no KL weight enters. The KL is in closed
    form where the estimator has it so already.
    """
    with torch.no_grad():
        terms = {"reconstruction": particles.reconstruction.sum() / particles.num_particles}
        elbo = terms["reconstruction"]
        for site in particles.latent_sites:
            divergence = particles.kl_at_hand(site).sum() / particles.num_particles
            terms[f"kl_{site}"] = divergence
            elbo = elbo - divergence
        return {"elbo": elbo, **terms}


class Objective(nn.Module):
    """A pair and an estimator as one module: a batch's tensors to a loss in nats per datum.

    Pyro's own estimators take the same place. Those without a differentiable loss (`RenyiELBO`) add
    to the parameters' `grad` inside `forward`, and the loss that comes back has no graph.
    """

    def __init__(self, pair: Pair, estimator: PyroELBO) -> None:
        super().__init__()
        self.pair = pair
        self.estimator = estimator
        self.auxiliary = auxiliary_of(estimator)
        self.kl_weight: Mapping[str, Tensor] = {}
        # in a dict, so that they are no part of the module: what they learn, they learn by themselves
        self.penalties: Mapping[str, Penalty] = {}
        self._full_size: dict[int, int] = {}

    def forward(self, *batch: Tensor) -> tuple[Tensor, Terms]:
        """The loss, a scalar, and the batch's terms: sums over its data."""
        pair, estimator = self.pair, self.estimator
        if (own := ours(estimator)) is not None:
            particles = own.draw(pair.model, pair.guide, *batch)
            if self.kl_weight:
                particles = particles.with_kl_weight(self.kl_weight)
            rows = len(batch[0])
            check_rows(particles, rows)
            loss = own.total(particles) / (particles.scale * particles.batch_size)
            terms = terms_of(particles)
            if rows != particles.batch_size:  # the plate took some of the rows: they stand for all of them
                terms = {name: term * (rows / particles.batch_size) for name, term in terms.items()}
            for site, penalty in self.penalties.items():
                added = penalty(particles)
                loss = loss + added
                terms[f"penalty_{site}"] = added.detach() * rows
            return loss, {"bound": -loss.detach() * rows, **terms}
        size = len(batch[0])
        if size not in self._full_size:
            self._full_size[size] = plate_size(pair, batch)
        full_size = self._full_size[size]
        if has_differentiable_loss(estimator):
            loss = estimator.differentiable_loss(pair.model, pair.guide, *batch) / full_size
        else:
            loss = self._loss_and_grads(batch, full_size) / full_size
        return loss, {"bound": -loss.detach() * size}

    def _loss_and_grads(self, batch: tuple[Tensor, ...], full_size: int) -> Tensor:
        loss = self.estimator.loss_and_grads(*self.pair.pyro(), *batch)
        if isinstance(
            loss, tuple
        ):  # ReweightedWakeSleep's: the wake-theta loss, which is a bound, and wake-phi's
            loss = loss[0]
        elif isinstance(self.estimator, TraceTailAdaptive_ELBO):  # it reports infinity: the ELBO stands in
            loss = ELBO(self.estimator.num_particles).loss(self.pair.model, self.pair.guide, *batch)
        self.pair.forget_pyro()
        for parameter in self.pair.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(full_size)
        return torch.as_tensor(loss, device=self.pair.device)


def has_differentiable_loss(estimator: PyroELBO) -> bool:
    """Whether the estimator gives a loss that autograd can follow, rather than gradients of its own."""
    return hasattr(estimator, "differentiable_loss") and not isinstance(estimator, TraceTailAdaptive_ELBO)


def plate_size(pair: Pair, batch: tuple[Tensor, ...]) -> int:
    """N of the pair's `data` plate, from one run of its programs; the batch's own size without one."""
    seen = seen_by(pair, batch)
    return seen.rows if seen.full_size is None else seen.full_size
