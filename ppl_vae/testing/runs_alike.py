"""Runs of a pair that must agree: twice over, beside other particles, and without one of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core import drawing
from ppl_vae.core.faults import NOT_AMORTISED, is_autoguide, short
from ppl_vae.core.isolation import random_numbers
from ppl_vae.core.one_by_one import runs_one_by_one
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.replaying import last_alone, replayed, values_of
from ppl_vae.core.sites import PairError
from ppl_vae.core.subsampling import seen_by


def attempt(what: str, action: Callable[[], Any], fix: str) -> Any:
    """What `action` gives; where it fails, a PairError that says what did, and the fix."""
    try:
        return action()
    except PairError:
        raise
    except Exception as error:
        raise PairError(f"{what}: {short(error)}\n{fix}") from error


def check_leading_dims(pair: Pair, batch: Sequence[Tensor]) -> None:
    """A particle's log-density is the same beside others as alone."""
    if runs_one_by_one(pair.model, pair.guide, tell=False):
        return
    num_particles = 3
    particles = drawing.draw(pair.model, pair.guide, tuple(batch), num_particles=num_particles)
    expected = (num_particles, particles.batch_size)
    for terms in _terms(particles):
        for name, term in terms.items():
            if tuple(term.shape) != expected:
                raise PairError(
                    f"site {name!r}: log-density of shape {list(term.shape)}, not {list(expected)}"
                )
    alone = last_alone(pair, batch, particles)
    for name, term in alone.log_likelihood.items():
        _compare(
            term[0],
            particles.log_likelihood[name][-1],
            f"site {name!r}: the log-likelihood of a particle changes when other particles run beside it. A "
            f"net in the model mixes its leading dims: it must treat (K, B, ...) as K times (B, ...)",
        )


def check_repeats(pair: Pair, batch: Sequence[Tensor]) -> None:
    """The same data and latents have the same density twice;
    else the checks that compare runs would mislead.
    """
    values = values_of(drawing.draw(pair.model, pair.guide, tuple(batch)))
    runs = []
    for _ in range(2):
        with random_numbers(0, pair.device):
            runs.append(replayed(pair, batch, values))
    for first, second in zip(_terms(runs[0]), _terms(runs[1]), strict=True):
        for name, term in second.items():
            _compare(
                term,
                first[name],
                f"site {name!r}: its log-density is another one in the next run, with the same data and "
                "latents. The program keeps something in Python that changes with each run, such as a "
                "counter: keep the weight of the KL term out of the programs (fit(kl=LinearWarmup(...))), "
                f"or what changes in a 0-d buffer that the training sets; check=False trains it as it is",
            )


def _terms(particles: Particles) -> tuple[Mapping[str, Tensor], ...]:
    return tuple(particles.densities(kind) for kind in ("log_likelihood", "log_prior", "log_guide"))


def check_independence(pair: Pair, batch: Sequence[Tensor]) -> None:
    """A datum's log-density is the same when another leaves the batch."""
    if pair.fixed_rows is not None:
        return
    full = drawing.draw(pair.model, pair.guide, tuple(batch))
    size = full.batch_size
    if any(len(tensor) != size for tensor in batch) or full.scale != 1.0 or full.global_sites:
        return  # a program that subsamples by itself decides which data it looks at
    fewer = tuple(tensor[: size - 1] for tensor in batch)
    if not seen_by(pair, fewer).fits:
        return  # the number of all data stands in the programs
    values = {}
    for name, value in values_of(full).items():
        data_dim = -1 - len(full.guide_trace.nodes[name]["fn"].event_shape)
        values[name] = value.narrow(data_dim, 0, size - 1)
    part = attempt(
        f"the pair runs on {size} data but not on {size - 1} of them",
        lambda: replayed(pair, fewer, values),
        NOT_AMORTISED
        if is_autoguide(pair.guide)
        else "A program must take any number of data: its plate is `pyro.plate('data', len(x), dim=-1)`, and "
        "no parameter or buffer has a row for each datum",
    )
    for whole_terms, part_terms in zip(_terms(full), _terms(part), strict=True):
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
