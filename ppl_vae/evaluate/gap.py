"""What inference loses: the gap between evidence and ELBO, the family's part and the encoder's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import torch
from pyro.distributions import TransformedDistribution
from torch import Tensor, nn

from ppl_vae.core import drawing, separate
from ppl_vae.core.checks import check_real, checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.known_evidence import KnowsEvidence
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import log_mean_exp
from ppl_vae.core.subsampling import whole_plate
from ppl_vae.distributions.local import Local, read_local
from ppl_vae.evaluate import arviz_support
from ppl_vae.evaluate.importance_sampling import from_log_weight
from ppl_vae.evaluate.k_hat import why_lower_bound
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.loop import Batch, batches, check_pair_type, refuse_global_latents, refuse_nan
from ppl_vae.evaluate.statistics import standard_error

CHOICE_PARTICLES = 100
"""Draws that decide between what a search found and the guide's own answer."""


@dataclass(frozen=True, eq=False)
class InferenceGap:
    r"""Evidence minus ELBO over a data set and its two parts, in nats per datum.

    .. math:: \underbrace{\log p(x) - \mathcal{L}[q]}_{\text{inference gap}} =
        \underbrace{\log p(x) - \mathcal{L}[q^*]}_{\text{approximation gap}} +
        \underbrace{\mathcal{L}[q^*] - \mathcal{L}[q]}_{\text{amortisation gap}}

    with q the guide's answer to x and q* the best of the same family for this x.

    Attributes:
        evidence: the mean over the data of log p(x), or of a lower bound on it: see `why_lower_bound`.
        elbo: the mean of the guide's ELBO.
        best_elbo: the mean of the ELBO with each datum's own q*.
        evidence_is_exact: whether the model knows its evidence; else it is estimated, and a little low.
        num_particles: K, draws for each ELBO and for an estimated evidence.
        why_lower_bound: why the evidence, and with it the inference gap and the approximation gap, is a lower
            bound and no more (k-hat is too high, see `log_likelihood`); empty where it may stand.
        evidence_per_datum, elbo_per_datum, best_elbo_per_datum: (N,), float64.
    """

    evidence: float
    elbo: float
    best_elbo: float
    evidence_is_exact: bool
    num_particles: int
    why_lower_bound: str
    evidence_per_datum: Tensor = field(repr=False)
    elbo_per_datum: Tensor = field(repr=False)
    best_elbo_per_datum: Tensor = field(repr=False)

    @property
    def approximation(self) -> float:
        """What the family costs: evidence minus `best_elbo`."""
        return float((self.evidence_per_datum - self.best_elbo_per_datum).mean())

    @property
    def approximation_standard_error(self) -> float:
        """Of `approximation`, from its spread over the data, Monte Carlo error included."""
        return standard_error(self.evidence_per_datum - self.best_elbo_per_datum)

    @property
    def amortisation(self) -> float:
        """What the encoder costs: `best_elbo` minus `elbo`."""
        return float((self.best_elbo_per_datum - self.elbo_per_datum).mean())

    @property
    def amortisation_standard_error(self) -> float:
        """Of `amortisation`, from its spread over the data, Monte Carlo error included."""
        return standard_error(self.best_elbo_per_datum - self.elbo_per_datum)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        gap = self.evidence_per_datum - self.elbo_per_datum
        known = "exact" if self.evidence_is_exact else f"estimated, K = {self.num_particles:,}"
        least = ""
        if self.why_lower_bound:
            known, least = f"! a lower bound, K = {self.num_particles:,}: {self.why_lower_bound}", " ≥"
        return [
            (f"log p(x){least}", plus_minus(self.evidence, standard_error(self.evidence_per_datum)), known),
            (
                "ELBO",
                plus_minus(self.elbo, standard_error(self.elbo_per_datum)),
                f"K = {self.num_particles:,}",
            ),
            (f"inference gap{least}", plus_minus(float(gap.mean()), standard_error(gap)), ""),
            (
                f"approximation gap{least}",
                plus_minus(self.approximation, self.approximation_standard_error),
                "the family's part",
            ),
            (
                "amortisation gap",
                plus_minus(self.amortisation, self.amortisation_standard_error),
                "the encoder's part",
            ),
        ]

    def __str__(self) -> str:
        return rows(f"{len(self.elbo_per_datum):,} data, nats per datum", self.lines())


@one_thread
@checked(num_steps=0)
def inference_gap(
    pair: Pair,
    data: Any,
    num_particles: int = 1000,
    *,
    num_steps: int = 300,
    step_size: float = 0.2,
    step_particles: int = 8,
    batch_size: int | None = None,
    chunk: int | None = None,
    seed: int | None = 0,
    progress: bool = True,
) -> InferenceGap:
    r"""Split evidence minus ELBO into the approximation gap and the amortisation gap.

    q* is found for each datum by Adam on its own variational parameters, from the guide's answer on, at a
    step size that falls to zero; for a flow these are the base's parameters and the contexts that x
    decides, while the nets behind stay. Where the search ends below the guide's own answer, as other draws
    tell, that answer is q*. A search that ends early counts as approximation. The evidence is
    the model's own `log_evidence(*batch)` where it has one, else importance sampling with q* as proposal.
    A search takes `num_steps * step_particles` passes of the decoder and back for each datum: a few
    hundred data tell most.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes.
        num_particles: K, draws for each datum and each of the two ELBOs, and for the evidence.
        num_steps: of the search, for each datum.
        step_size: of its first step, in units of the answer's own scale.
        step_particles: draws of each step.
        batch_size: data at a time; chosen together with `chunk` for the cache where None.
        chunk: particles at a time, at most.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.

    Raises:
        PairError: a guide that has not exactly one latent site, reparameterised and inside the `data`
            plate, latents outside it, a NaN (the datum is named).
        ValueError: data that is empty or has lengths that differ, or a number that is not positive.

    Cremer, Li and Duvenaud, Inference Suboptimality in Variational Autoencoders, arXiv:1801.03558.

    >>> from ppl_vae import Pair, guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    >>> gap = inference_gap(pair, torch.randn(8, 5), 100, num_steps=20, progress=False)
    >>> gap.evidence_is_exact, gap.elbo_per_datum.shape
    (True, torch.Size([8]))
    """
    check_pair_type(pair)
    check_real("step_size", step_size, above=True)
    known = pair.model.log_evidence if isinstance(pair.model, KnowsEvidence) else None
    with questioning(pair, seed, pair.device):
        source, runs = batches(
            pair, data, num_particles,
            # the search takes most of the time, and few particles: many data at once instead
            batch_size=batch_size, chunk=chunk or 4 * step_particles, progress=progress,
            description="inference gap",
        )  # fmt: skip
        evidence, elbo, best, k_hat, ess = torch.empty(5, len(source), dtype=torch.float64)
        for batch in runs:
            done = slice(batch.first, batch.first + len(batch))
            elbo[done] = _log_weights(batch).mean(0)
            with whole_plate(len(batch)):
                local = read_local(pair.guide, batch.tensors)
                moves = _climb(pair.model, local, batch, num_steps, step_size, step_particles)
                moves = _kept(pair.model, local, batch, moves)
            own = replace(batch, pair=Pair(pair.model, _Posterior(local, moves)))
            log_weight = _log_weights(own)
            best[done] = log_weight.mean(0)
            if callable(known):
                evidence[done] = known(*batch.tensors).double().cpu()
            else:
                evidence[done] = log_mean_exp(log_weight)
                k_hat[done] = torch.from_numpy(arviz_support.k_hat(log_weight.T.contiguous().numpy()))
                ess[done] = from_log_weight(log_weight.T)[2]
    return InferenceGap(
        evidence=float(evidence.mean()),
        elbo=float(elbo.mean()),
        best_elbo=float(best.mean()),
        evidence_is_exact=callable(known),
        num_particles=num_particles,
        why_lower_bound="" if callable(known) else why_lower_bound(k_hat, ess, num_particles),
        evidence_per_datum=evidence,
        elbo_per_datum=elbo,
        best_elbo_per_datum=best,
    )


def _log_weights(batch: Batch) -> Tensor:
    """(K, B), float64, on the host."""
    parts = []
    for drawn in batch.particles():
        refuse_global_latents(drawn, "evaluate.inference_gap")
        parts.append(drawn.log_weight.cpu().double())
    log_weight = torch.cat(parts)
    refuse_nan(log_weight.sum(0), drawn, batch.first)
    return log_weight


class _Posterior(nn.Module):
    """A guide with parameters for each datum of one batch."""

    def __init__(self, local: Local, moves: Sequence[Tensor]) -> None:
        super().__init__()
        self.local = local
        self.moves = list(moves)

    def forward(self, *batch: Any) -> Tensor:
        with self.local.plate():
            return pyro.sample(self.local.site, self.local.rebuild(self.moves))


def _climb(
    model: nn.Module, local: Local, batch: Batch, num_steps: int, step_size: float, num_particles: int
) -> tuple[Tensor, ...]:
    """The displacements at which each datum's ELBO is highest."""
    with torch.enable_grad():
        moves = local.zeros()
        if not num_steps:
            return tuple(move.detach() for move in moves)
        guide = _Posterior(local, moves)
        # a short memory, since the first gradients may be huge; so large an eps makes it gradient ascent near
        # the top, where Adam would follow rounding errors
        optimizer = torch.optim.Adam(moves, lr=step_size, betas=(0.9, 0.98), eps=step_size)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / num_steps, total_iters=num_steps)
        objective = _objective(local.rebuild(moves))
        for _ in range(num_steps):
            loss = -objective(model, guide, batch.tensors, num_particles)
            for move, gradient in zip(moves, torch.autograd.grad(loss, moves)):
                move.grad = gradient
            optimizer.step()
            schedule.step()
        return tuple(move.detach() for move in moves)


@torch.no_grad()
def _kept(model: nn.Module, local: Local, batch: Batch, moves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """No displacement for the data whose ELBO it lowers."""

    def elbo(moves: Sequence[Tensor]) -> Tensor:
        guide = _Posterior(local, moves)
        drawn = drawing.draw(model, guide, batch.tensors, num_particles=CHOICE_PARTICLES)
        return drawn.log_weight.mean(0)

    better = elbo(moves) >= elbo(local.zeros())
    return tuple(move * better.view(-1, *[1] * (move.dim() - 1)) for move in moves)


def _objective(posterior: Any) -> Callable[..., Tensor]:
    if isinstance(posterior, TransformedDistribution):
        return _elbo  # a flow's density away from its own draws would take its inverse
    return _path_elbo


def _elbo(model: nn.Module, guide: nn.Module, args: tuple[Tensor, ...], num_particles: int) -> Tensor:
    drawn = drawing.draw(model, guide, args, num_particles=num_particles)
    return drawn.log_weight.mean(0).sum()


def _path_elbo(model: nn.Module, guide: nn.Module, args: tuple[Tensor, ...], num_particles: int) -> Tensor:
    # without the score, whose mean is zero: no noise is left where q is the posterior
    drawn = separate.draw(model, guide, args, num_particles=num_particles)
    return drawn.path_term.mean(0).sum()
