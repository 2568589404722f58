"""check_pair: the contract of a pair as checks, for a user's own pairs too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO as PyroELBO
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_site_shape
from torch import Tensor, nn

from ppl_vae import particles as particles_module
from ppl_vae.estimators import ELBO
from ppl_vae.isolation import eval_mode, one_thread, random_numbers, validation
from ppl_vae.pair import Pair
from ppl_vae.particles import Particles
from ppl_vae.sites import PairError, Site, Uncondition, check_sites_match, is_bookkeeping, latent_names
from ppl_vae.testing.linter import check_estimator_for


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

    def __str__(self) -> str:
        rows = [f"latent    {name}  {list(shape)}" for name, shape in self.latent_sites.items()]
        rows += [f"observed  {name}  {list(shape)}" for name, shape in self.observed_sites.items()]
        rows += [f"global    {name}" for name in self.global_sites]
        rows += [f"score-function gradient  {name}" for name in self.non_reparameterised]
        return "\n".join(["the pair keeps the contract", *rows, f"parameters  {self.num_parameters:,}"])


@one_thread
def check_pair(
    pair: Pair, *batch: Tensor, estimator: PyroELBO | None = None, allow_global: bool = False
) -> PairReport:
    """Run a pair through its contract on one batch, and say what it is made of.

    The pair, its BatchNorm averages, the gradients and the random numbers are left as they were.

    Args:
        pair: the pair.
        batch: what its programs are called with; two data or more.
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
    if not batch or any(len(tensor) < 2 for tensor in batch):
        raise PairError("check_pair needs a batch of two data or more: check_pair(pair, x)")
    with _undisturbed(pair), validation(True):
        particles = _run(pair, batch)
        _check_plates(particles, allow_global or estimator is not None)
        _check_shapes(particles)
        _check_finite(particles)
        _check_unconditioned(pair, batch, particles.model_trace)
        if particles.log_likelihood or particles.log_guide:
            _check_leading_dims(pair, batch)
            _check_independence(pair, batch)
        _check_gradients(pair, batch)
        if estimator is not None:
            check_estimator_for(pair, batch, estimator)
    return _report(pair, particles)


@contextlib.contextmanager
def _undisturbed(pair: Pair) -> Iterator[None]:
    gradients = [(parameter, parameter.grad) for parameter in pair.parameters()]
    try:
        with eval_mode(pair), random_numbers(0, pair.device):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _attempt(what: str, action: Callable[[], Any], fix: str) -> Any:
    try:
        return action()
    except PairError:
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise PairError(f"{what}: {reason}\n{fix}") from error


def _trace(program: nn.Module, batch: Sequence[Tensor], role: str) -> Trace:
    bad = [
        (~t.isfinite()).flatten(1).any(1).nonzero() for t in batch if t.is_floating_point() and t.dim() > 1
    ]
    rows = [int(row[0]) for row in bad if len(row)]
    nan = (
        f" (the batch has NaN or infinite entries, first in datum {rows[0]}: clean or mask them)"
        if rows
        else ""
    )
    return _attempt(
        f"the {role} cannot run on a batch of shapes {[list(t.shape) for t in batch]}{nan}",
        lambda: poutine.trace(program).get_trace(*batch),
        "It is called with the batch's tensors in order. Under `with pyro.plate('data', len(x), dim=-1)` "
        "a site's batch shape must be the plate's: put .to_event(n) on the distribution so that one "
        "datum is one event",
    )


def _run(pair: Pair, batch: Sequence[Tensor]) -> Particles:
    guide_trace = _trace(pair.guide, batch, "guide")
    # names first: a model replayed on a guide with other names would fail less clearly
    check_sites_match(
        prune_subsample_sites(_unreplayed_trace(pair, batch)), prune_subsample_sites(guide_trace)
    )
    model_trace = _trace(poutine.replay(pair.model, trace=guide_trace), batch, "model")
    for trace in (guide_trace, model_trace):
        _check_log_prob(trace)
    return particles_module.read(model_trace, guide_trace, num_particles=1)


def _unreplayed_trace(pair: Pair, batch: Sequence[Tensor]) -> Trace:
    return _trace(pair.model, batch, "model")


def _check_log_prob(trace: Trace) -> None:
    for name, site in prune_subsample_sites(trace).nodes.items():
        if site["type"] != "sample":
            continue
        value = site["value"]
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            raise PairError(
                f"site {name!r}: its value has NaN or infinite entries "
                f"({int((~value.isfinite()).sum())} of {value.numel()}). " + _where_from(site)
            )
        _attempt(
            f"site {name!r}: log_prob of a value of shape {list(value.shape)} fails",
            lambda site=site: site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"]),  # type: ignore[misc]
            f"The distribution has batch shape {list(site['fn'].batch_shape)} and event shape "
            f"{list(site['fn'].event_shape)}: the data must fit its shape and its support",
        )


def _where_from(site: Site) -> str:
    if is_bookkeeping(site):
        return "Look at what it is computed from"
    return "Clean the data" if site["is_observed"] else "Look at the guide's scale and its network"


def _check_plates(particles: Particles, allow_global: bool) -> None:
    if not particles.log_likelihood:
        raise PairError(
            "the model observes nothing inside the plate 'data': write pyro.sample('x', ..., obs=x) "
            "under `with pyro.plate('data', len(x), dim=-1):`"
        )
    if particles.global_sites and not allow_global:
        raise PairError(
            f"{list(particles.global_sites)} stand outside the plate 'data': move them under `with "
            f"pyro.plate('data', len(x), dim=-1):` in model and guide. If they are meant as latents "
            f"shared by all data, use an estimator that treats them (estimators.ELBO, "
            f"estimators.MeanFieldELBO, pyro.infer.Trace_ELBO) and check_pair(..., allow_global=True)"
        )


def _check_shapes(particles: Particles) -> None:
    for role, trace in (("model", particles.model_trace), ("guide", particles.guide_trace)):
        for name, site in trace.nodes.items():
            if site["type"] == "sample":
                site["log_prob"] = site["fn"].log_prob(site["value"])
                _attempt(
                    f"site {name!r} of the {role}",
                    lambda site=site: check_site_shape(site, float("inf")),  # type: ignore[misc]
                    "Every dim left of the event must belong to a plate",
                )
    for name in latent_names(particles.guide_trace):
        shapes = [
            trace.nodes[name]["fn"].event_shape for trace in (particles.model_trace, particles.guide_trace)
        ]
        if shapes[0] != shapes[1]:
            raise PairError(
                f"site {name!r}: its event shape is {list(shapes[0])} in the model but {list(shapes[1])} "
                f"in the guide. Give both the same size and the same .to_event(n)"
            )


def _check_finite(particles: Particles) -> None:
    for role, terms in (
        ("log-likelihood", particles.log_likelihood),
        ("log-prior", particles.log_prior),
        ("log-guide", particles.log_guide),
    ):
        for name, term in terms.items():
            if not bool(term.isfinite().all()):
                bad = int((~term.isfinite().all(0)).nonzero()[0])
                raise PairError(
                    f"site {name!r}: the {role} of datum {bad} is {term[0, bad].item()}. Check that the value "
                    f"is inside the distribution's support and that no scale is zero"
                )


def _check_unconditioned(pair: Pair, batch: Sequence[Tensor], model_trace: Trace) -> None:
    program = Uncondition()(pair.model)
    trace = _attempt(
        "the model cannot run unconditioned, which is how samples are drawn",
        lambda: poutine.trace(program).get_trace(*batch),
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


def _check_leading_dims(pair: Pair, batch: Sequence[Tensor]) -> None:
    num_particles = 3
    particles = _attempt(
        f"the pair cannot run with {num_particles} particles at once",
        lambda: particles_module.draw(pair.model, pair.guide, tuple(batch), num_particles=num_particles),
        "A net in the model receives latents of shape (K, B, ...): it must accept any number of leading "
        "dims, as nn.Linear does. Flatten them before a convolution and unflatten them after",
    )
    expected = (num_particles, particles.batch_size)
    for terms in (particles.log_likelihood, particles.log_prior, particles.log_guide):
        for name, term in terms.items():
            if tuple(term.shape) != expected:
                raise PairError(
                    f"site {name!r}: log-density of shape {list(term.shape)}, not {list(expected)}"
                )
    single = _values(particles_module.draw(pair.model, pair.guide, tuple(batch)))
    last = {name: value[-1].reshape(single[name].shape) for name, value in _values(particles).items()}
    alone = _replayed(pair, batch, last)
    for name, term in alone.log_likelihood.items():
        _compare(
            term[0],
            particles.log_likelihood[name][-1],
            f"site {name!r}: the log-likelihood of a particle changes when other particles run beside it. A "
            f"net in the model mixes its leading dims: it must treat (K, B, ...) as K times (B, ...)",
        )


def _replayed(pair: Pair, batch: Sequence[Tensor], values: dict[str, Tensor]) -> Particles:
    """One particle whose latents are given."""
    guide = poutine.condition(pair.guide, values)
    guide_trace = poutine.trace(guide).get_trace(*batch)
    for name in values:
        guide_trace.nodes[name]["is_observed"] = False
    model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(*batch)
    return particles_module.read(model_trace, guide_trace, num_particles=1)


def _values(particles: Particles) -> dict[str, Tensor]:
    trace = particles.guide_trace
    return {name: trace.nodes[name]["value"].detach() for name in latent_names(trace)}


def _check_independence(pair: Pair, batch: Sequence[Tensor]) -> None:
    full = particles_module.draw(pair.model, pair.guide, tuple(batch))
    size = full.batch_size
    if any(len(tensor) != size for tensor in batch) or full.scale != 1.0 or full.global_sites:
        return  # a program that subsamples by itself decides which data it looks at
    fewer = tuple(tensor[: size - 1] for tensor in batch)
    values = {}
    for name, value in _values(full).items():
        data_dim = -1 - len(full.guide_trace.nodes[name]["fn"].event_shape)
        values[name] = value.narrow(data_dim, 0, size - 1)
    part = _replayed(pair, fewer, values)
    for whole_terms, part_terms in (
        (full.log_likelihood, part.log_likelihood),
        (full.log_prior, part.log_prior),
        (full.log_guide, part.log_guide),
    ):
        for name, term in part_terms.items():
            _compare(
                term,
                whole_terms[name][:, :-1],
                f"site {name!r}: the log-density of a datum changes when another leaves the batch, but the "
                f"plate 'data' declares them independent. Look for a reshape or a softmax over the batch dim",
            )


def _compare(value: Tensor, expected: Tensor, message: str) -> None:
    tolerance = 1e-3 if value.dtype in (torch.float32, torch.bfloat16, torch.float16) else 1e-8
    if not torch.allclose(value, expected, rtol=tolerance, atol=tolerance):
        worst = int((value - expected).abs().flatten().argmax())
        got, wanted = value.flatten()[worst].item(), expected.flatten()[worst].item()
        raise PairError(f"{message} ({got:.6g} against {wanted:.6g})")


def _check_gradients(pair: Pair, batch: Sequence[Tensor]) -> None:
    for parameter in pair.parameters():
        parameter.grad = None
    _attempt(
        "the gradient of the ELBO cannot be computed",
        lambda: ELBO().differentiable_loss(pair.model, pair.guide, *batch).backward(),
        "Every operation between the parameters and the distributions must be differentiable",
    )
    trained = [(name, p) for name, p in pair.named_parameters() if p.requires_grad]
    missing = [name for name, parameter in trained if parameter.grad is None]
    if missing:
        raise PairError(
            f"no gradient reaches {missing}: use them in forward, or freeze them with requires_grad_(False)"
        )
    bad = [name for name, p in trained if p.grad is not None and not bool(p.grad.isfinite().all())]
    if bad:
        raise PairError(f"the gradient of {bad} is not finite: look for log(0), sqrt(0) or a scale of zero")


def _report(pair: Pair, particles: Particles) -> PairReport:
    def event_shapes(trace: Trace, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        return {name: tuple(trace.nodes[name]["fn"].event_shape) for name in names}

    return PairReport(
        event_shapes(particles.guide_trace, latent_names(particles.guide_trace)),
        event_shapes(particles.model_trace, list(particles.log_likelihood)),
        particles.global_sites,
        tuple(sorted(particles.non_reparameterised)),
        sum(parameter.numel() for parameter in pair.parameters()),
    )
