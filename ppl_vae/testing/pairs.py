"""check_pair: the contract of a pair as checks, for a user's own pairs too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO as PyroELBO
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_site_shape
from torch import Tensor

from ppl_vae.core import drawing
from ppl_vae.core.alike import check_latents_alike
from ppl_vae.core.density import has_density
from ppl_vae.core.faults import NOT_AMORTISED, is_autoguide, sites_so_far, traced
from ppl_vae.core.finite import num_values
from ppl_vae.core.isolation import eval_mode, one_thread, random_numbers, validation
from ppl_vae.core.meeting import meet
from ppl_vae.core.missing import same_values
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import (
    PairError,
    Uncondition,
    check_sites_match,
    is_summed,
    latent_names,
    observed_names,
    other_plates,
    plate_nesting,
    without_data_plate,
)
from ppl_vae.core.subsampling import check_rows, check_sizes, whole_plate
from ppl_vae.core.summing import sums_over
from ppl_vae.estimators import ELBO, MeanFieldELBO
from ppl_vae.testing.gradients import baseline_parameters, check_owned
from ppl_vae.testing.hints import starting_hints
from ppl_vae.testing.inputs import batch_of, factor_notes, model_inputs
from ppl_vae.testing.linter import check_estimator_for
from ppl_vae.testing.on_a_gpu import gpu_notes
from ppl_vae.testing.runs_alike import attempt, check_independence, check_leading_dims, check_repeats
from ppl_vae.testing.values import check_values


@dataclass(frozen=True)
class PairReport:
    """What `check_pair` found in a pair that keeps the contract."""

    latent_sites: dict[str, tuple[int, ...]]
    """The event shape of each latent site."""
    observed_sites: dict[str, tuple[int, ...]]
    """The event shape of each observed site."""
    global_sites: tuple[str, ...]
    """The latent sites outside the `data` plate."""
    non_reparameterised: tuple[str, ...]
    """The guide's sites whose gradient is a score function's."""
    num_parameters: int
    inputs: tuple[str, ...] = ()
    """The model's arguments whose values it reads and which are data of no site,
    such as the label of a class.
    """
    summed_sites: dict[str, int] = field(default_factory=dict)
    """The finite latent sites that the model alone has, which are summed over: how many values each has."""
    notes: tuple[str, ...] = ()
    """What is no breach of the contract and should be known."""
    hints: tuple[str, ...] = ()
    """What would make a training start badly, and what helps."""

    def __str__(self) -> str:
        rows = [f"latent    {name}  {list(shape)}" for name, shape in self.latent_sites.items()]
        rows += [f"summed    {name}  {size} values" for name, size in self.summed_sites.items()]
        rows += [f"observed  {name}  {list(shape)}" for name, shape in self.observed_sites.items()]
        rows += [f"global    {name}" for name in self.global_sites]
        rows += [f"score-function gradient  {name}" for name in self.non_reparameterised]
        rows += [f"input     {name}" for name in self.inputs]
        rows += [f"parameters  {self.num_parameters:,}", *(f"note  {note}" for note in self.notes)]
        rows += [f"hint  {hint}" for hint in self.hints]
        return "\n".join(["the pair keeps the contract", *rows])


@one_thread
def check_pair(
    pair: Pair, *batch: Any, estimator: PyroELBO | None = None, allow_global: bool = False
) -> PairReport:
    """Run a pair through its contract on one batch, and say what it is made of.

    The pair, its BatchNorm averages, the gradients and the random numbers are left as they were.

    Args:
        pair: the pair.
        batch: what its programs are called with, two data or more; or a data set, a dictionary of arrays or
            whatever else `data.as_split` takes, of which eight data are taken.
        estimator: one of ours or of Pyro's, to be checked for this pair too (`linter`).
        allow_global: accept latent sites outside the `data` plate, which some estimators treat; with
            an estimator it is the one to say so.

    Raises:
        PairError: naming the site, the shapes and the fix, for: a program that fails, latent sites
            whose names differ, a site outside the `data` plate, wrong event dims, a value outside
            a site's support, NaN, a model that cannot run unconditioned, a net that does not accept
            leading dims or that mixes data, a parameter without a gradient, an estimator that is not
            valid for the pair.
    """
    require_pair(pair)
    batch = batch_of(pair, batch)
    meet(pair, batch)
    before = [tensor.clone() for tensor in batch]
    with _undisturbed(pair), validation(True):
        check_sizes(pair, [batch], "the batch of check_pair")
        with whole_plate(len(batch[0])) as seen:
            particles = _run(pair, batch)
            _check_untouched(batch, before)
            _check_plates(particles, allow_global or estimator is not None, is_autoguide(pair.guide))
            _check_shapes(particles, plate_nesting(pair.model, pair.guide, tuple(batch), {}))
            _check_finite(particles)
            _check_unconditioned(pair, batch, particles.model_trace)
            if particles.log_likelihood or particles.log_guide:
                check_repeats(pair, batch)
                check_leading_dims(pair, batch)
                check_independence(pair, batch)
        if seen.subsamples:
            check_rows(_run(pair, batch), len(batch[0]))
        _check_gradients(pair, batch)
        if estimator is not None:
            check_estimator_for(pair, batch, estimator)
        inputs, notes = model_inputs(pair, batch)
        hints = starting_hints(pair, batch, particles)
        notes += gpu_notes(pair, batch)
    return _report(pair, particles, inputs, notes, hints)


def _check_untouched(batch: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    for number, (tensor, was) in enumerate(zip(batch, before)):
        if not same_values(tensor, was):
            tensor.copy_(was)
            raise PairError(
                f"a program changes its batch in place (tensor {number}), so whoever runs next sees other "
                f"data: write x = x - 1 and not x -= 1, x.clamp(0) and not x.clamp_(0)"
            )


@contextlib.contextmanager
def _undisturbed(pair: Pair) -> Iterator[None]:
    gradients = [(parameter, parameter.grad) for parameter in pair.parameters()]
    try:
        with eval_mode(pair), random_numbers(0, pair.device):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _run(pair: Pair, batch: Sequence[Tensor]) -> Particles:
    guide_trace = traced(pair.guide, batch, "guide")
    # names, sizes and kinds first: a model replayed on a guide with others would fail less clearly
    try:
        alone = prune_subsample_sites(traced(pair.model, batch, "model"))
    except PairError:  # perhaps for the size of a latent, which the guide's net gives away
        check_latents_alike(sites_so_far(pair.model, batch), prune_subsample_sites(guide_trace))
        raise
    if not sums_over(alone, guide_trace):
        check_sites_match(alone, prune_subsample_sites(guide_trace))
    if observed := observed_names(guide_trace):
        raise PairError(
            f"the guide observes {observed}, whose density would be taken off the bound: data are observed "
            f"in the model alone, and the guide looks at them as its arguments"
            + (
                ""
                if observed_names(alone)
                else ". The model observes nothing: are they swapped? Pair(model, guide)"
            )
        )
    check_latents_alike(alone, prune_subsample_sites(guide_trace))
    model_trace = traced(poutine.replay(pair.model, trace=guide_trace), batch, "model")
    for trace in (guide_trace, model_trace):
        check_values(trace, guide_trace)
    return drawing.at_draws(pair.model, pair.guide, guide_trace, tuple(batch))


def _check_plates(particles: Particles, allow_global: bool, autoguide: bool) -> None:
    traces = (particles.model_trace, particles.guide_trace)
    if not particles.log_likelihood:
        raise PairError(
            f"{without_data_plate('the model observes nothing', particles.model_trace)}; there give the data "
            f"to their site, pyro.sample('x', ..., obs=x)"
        )
    if particles.global_sites and not allow_global:
        raise PairError(
            f"{list(particles.global_sites)} stand outside the plate 'data'"
            f"{other_plates(particles.global_sites, *traces)}: move them under `with "
            f"pyro.plate('data', len(x), dim=-1):` in model and guide. If they are meant as latents "
            f"shared by all data, use an estimator that treats them (estimators.ELBO, "
            f"estimators.MeanFieldELBO, pyro.infer.Trace_ELBO) and check_pair(..., allow_global=True)"
            + (f". {NOT_AMORTISED}" if autoguide else "")
        )


def _check_shapes(particles: Particles, nesting: int) -> None:
    for role, trace in (("model", particles.model_trace), ("guide", particles.guide_trace)):
        for name, site in trace.nodes.items():
            if site["type"] == "sample" and has_density(site["fn"]):
                site["log_prob"] = site["fn"].log_prob(site["value"])
                # the values of sites that are summed over stand to the left of all plates
                sums = role == "model" and (is_summed(site) or name in particles.under_sum)
                most = nesting if sums else float("inf")
                attempt(
                    f"site {name!r} of the {role}",
                    lambda site=site, most=most: check_site_shape(site, most),  # type: ignore[misc]
                    "Every dim left of the event must belong to a plate",
                )


def _check_finite(particles: Particles) -> None:
    for role, terms in (
        ("log-likelihood", particles.densities("log_likelihood")),
        ("log-prior", particles.densities("log_prior")),
        ("log-guide", particles.densities("log_guide")),
        ("divergence", {name: particles.kl(name) for name in particles.without_density}),
    ):
        for name, term in terms.items():
            if not bool(term.isfinite().all()):
                bad = int((~term.isfinite().all(0)).nonzero()[0])
                raise PairError(
                    f"site {name!r}: the {role} of datum {bad} is {term[0, bad].item()}. Check that the "
                    f"value is inside the distribution's support and that no scale is zero"
                )


def _check_unconditioned(pair: Pair, batch: Sequence[Tensor], model_trace: Trace) -> None:
    trace = attempt(
        "the model cannot run unconditioned, which is how samples are drawn",
        lambda: poutine.trace(Uncondition()(pair.model)).get_trace(*batch),
        "Take only the batch's size, dtype and device from x outside of obs=..., and use distributions "
        "that can be sampled",
    )
    for name, site in model_trace.nodes.items():
        if site["type"] == "sample" and trace.nodes.get(name, {}).get("infer", {}).get("was_observed"):
            drawn, observed = trace.nodes[name]["value"], site["value"]
            if drawn.shape != observed.shape:
                raise PairError(
                    f"site {name!r}: unconditioned it draws shape {list(drawn.shape)}, but the data has "
                    f"shape {list(observed.shape)}. The decoder's output must have the data's shape"
                )


def _check_gradients(pair: Pair, batch: Sequence[Tensor]) -> None:
    for parameter in pair.parameters():
        parameter.grad = None
    particles = ELBO().draw(pair.model, pair.guide, *batch)
    estimator = MeanFieldELBO() if particles.without_density else ELBO()
    loss = estimator.total(particles)
    for name, count in num_values(particles.model_trace).items():
        if count == 1:  # which is certain, and has no part in the sum
            site = particles.model_trace.nodes[name]
            loss = loss + site["fn"].log_prob(site["value"]).sum()
    check_owned(pair, batch, loss)
    if not any(parameter.requires_grad for parameter in pair.parameters()):
        return  # nothing is to be trained, and the report says so
    fix = "Every operation between the parameters and the distributions must be differentiable"
    if not torch.is_grad_enabled():
        fix = "Gradients are switched off around this call, by torch.no_grad() or its like: leave its block"
    attempt("the gradient of the ELBO cannot be computed", loss.backward, fix)
    baselines = baseline_parameters(particles.guide_trace)
    trained = [(name, p) for name, p in pair.named_parameters() if p.requires_grad]
    missing = [name for name, p in trained if p.grad is None and id(p) not in baselines]
    if missing:
        raise PairError(
            f"no gradient reaches {missing}: use them in forward, or freeze them with requires_grad_(False)"
        )
    bad = [name for name, p in trained if p.grad is not None and not bool(p.grad.isfinite().all())]
    if bad:
        raise PairError(f"the gradient of {bad} is not finite: look for log(0), sqrt(0) or a scale of zero")


def _report(
    pair: Pair, particles: Particles, inputs: tuple[str, ...], notes: tuple[str, ...], hints: tuple[str, ...]
) -> PairReport:
    def event_shapes(trace: Trace, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        return {name: tuple(trace.nodes[name]["fn"].event_shape) for name in names}

    model = particles.model_trace
    return PairReport(
        event_shapes(particles.guide_trace, latent_names(particles.guide_trace)),
        event_shapes(model, [name for name in observed_names(model) if name in particles.log_likelihood]),
        particles.global_sites,
        tuple(sorted(particles.non_reparameterised)),
        sum(parameter.numel() for parameter in pair.parameters()),
        inputs,
        num_values(model),
        notes + factor_notes(model, particles.guide_trace),
        hints,
    )
