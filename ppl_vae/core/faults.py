"""Faults: why a program fails, by site, parameter, value and shape, and what mends it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from ppl_vae.core.alike import check_latents_alike
from ppl_vae.core.constraints import COUNTS_IN_BYTES, are_bytes_over_255, parameter_fault, support_fault
from ppl_vae.core.isolation import eval_mode, random_numbers, validation
from ppl_vae.core.sites import PairError, Program, latent_names

_IN_PLATE = re.compile(
    r"Shape mismatch inside plate\('(?P<plate>[^']*)'\) at site (?P<site>\S+) dim (?P<dim>-?\d+), "
    r"(?P<size>\d+) vs (?P<got>\d+)"
)
_PARAM_IN_PLATE = re.compile(
    r"Inside pyro.plate\((?P<plate>[^,]*), (?P<size>\d+), .*invalid shape of pyro.param\((?P<name>[^,)]*).*"
    r"torch.Size\(\[(?P<shape>[\d, ]*)\]\)"
)
_DTYPES = ("same dtype", "expected scalar type", "should be the same", "expected m1 and m2", "but got Double")
_FIXES = {
    "Multiple sample sites named": "Every site and every plate of a program has a name of its own",
    "object is not callable": "pyro.sample takes a name and a distribution of pyro.distributions",
    'missing the required "forward"': "A program is a Module whose forward makes pyro.sample statements",
}
_NOT_THE_PROGRAMS = ("torch", "pyro", "ppl_vae", "contextlib.py")


NOT_AMORTISED = (
    "The guide of a pair computes the posterior of any batch from its tensors: use "
    "guides.MeanField(encoder), or a guide of your own. An autoguide keeps free parameters for the data of "
    "its first run, so it goes with latents outside the plate 'data'; or with all data as one batch always, "
    "through pyro.infer.SVI"
)


_INTO_SUPPORT = (
    "The data, or what the guide draws, must lie in the support of the model's distribution: give the site "
    "another distribution, or transform the values"
)


class Fault(NamedTuple):
    """Why a program fails, and what to do."""

    reason: str
    fix: str


def short(error: BaseException) -> str:
    """An error's text without the tables and tensors that Pyro and torch put after it."""
    text = str(error).partition("Trace Shapes:")[0]
    text = re.sub(r",? but found invalid values:\s*tensor\(.*", "", text, flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:6])[:600] or type(error).__name__


def explain(
    error: Exception, program: Program, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> Fault:
    """The fault behind a program's error, found by running it again without Pyro's checks.

    Args:
        error: what the program raised.
        program: a Module, or a Module within effect handlers.
        args, kwargs: what it was called with.
    """
    # autoguides keep free parameters for the data of their first run
    if found := _PARAM_IN_PLATE.search(str(error)):
        shape = [int(size) for size in found["shape"].split(",") if size.strip()]
        return Fault(
            f"the parameter {found['name']!r} of shape {shape} has a row for each datum of another batch, "
            f"and this one has {found['size']} data in the plate {found['plate']!r}",
            NOT_AMORTISED,
        )
    if found := _IN_PLATE.search(str(error)):
        return _in_plate(found)
    if isinstance(error, TypeError) and "positional argument" in str(error):
        return Fault(
            short(error),
            f"A program is called with the batch's tensors in order, and this batch has {len(args)}: its "
            f"forward takes as many. A data set's batch has labels where it was made with labels=True",
        )
    if fault := _of_sites(sites_so_far(program, args, kwargs)):
        return fault._replace(reason=fault.reason + _not_finite(args))
    where = users_line(error)
    reason = short(error) + (f" (in {where})" if where else "") + _not_finite(args)
    if any(hint in str(error) for hint in _DTYPES):
        kinds = sorted({str(arg.dtype) for arg in args if isinstance(arg, Tensor)})
        return Fault(
            reason,
            f"The batch is {' and '.join(kinds)}: give the data and the pair one type, x.float() or "
            "pair.double()",
        )
    for hint, fix in _FIXES.items():
        if hint in str(error):
            return Fault(reason, fix)
    each = " and ".join(
        f"{len(arg)} of shape {tuple(arg.shape[1:])}" for arg in args if isinstance(arg, Tensor) and arg.dim()
    )
    return Fault(reason, f"The program is called with the batch's tensors in order: {each or 'none'}")


def traced(program: Program, batch: Sequence[Tensor], role: str) -> Trace:
    """A program's trace on a batch.

    Raises:
        PairError: naming the role, the fault and the fix, where it fails.
    """
    try:
        return poutine.trace(program).get_trace(*batch)
    except PairError:
        raise
    except Exception as error:
        fault = explain(error, program, batch)
        raise PairError(
            f"the {role} cannot run on a batch of shapes {[list(t.shape) for t in batch]}: "
            f"{fault.reason}\n{fault.fix}"
        ) from error


def refusal(
    error: Exception,
    model: Program,
    guide: Program,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    num_particles: int,
) -> Exception:
    """The error of a pair that failed with K particles, explained;
    the same one where that is not possible.
    """
    if isinstance(error, PairError | Warning) or _is_transformed():
        return error
    with _aside(model, guide):
        role, program = "guide", guide
        try:
            drawn = poutine.trace(guide).get_trace(*args, **kwargs)
            role, program = "model", poutine.replay(model, trace=drawn)
            for trace in (drawn, poutine.trace(program).get_trace(*args, **kwargs)):
                trace.compute_log_prob()
        except PairError as known:
            return known
        except Exception as alone:
            if role == "model":
                try:  # a net that meets a latent of another size than its own says nothing of the site
                    check_latents_alike(sites_so_far(model, args, kwargs), prune_subsample_sites(drawn))
                except PairError as unlike:
                    return unlike
            fault = explain(alone, program, args, kwargs)
            if isinstance(guide, nn.Module) and _keeps_data(guide, model, args):
                fault = fault._replace(fix=NOT_AMORTISED)
            return PairError(f"the {role} cannot run: {fault.reason}. {fault.fix}")
    return error if num_particles == 1 else PairError(not_together(error, guide, args, num_particles))


def not_together(error: Exception, guide: Program, args: Sequence[Any], num_particles: int) -> str:
    """Why a pair that runs on one draw of each datum does not run on K at once."""
    where = users_line(error)
    with _aside(guide):
        try:
            trace = poutine.trace(guide).get_trace(*args)
            drawn = {
                name: trace.nodes[name]["value"].shape for name in latent_names(prune_subsample_sites(trace))
            }
            shapes = "; ".join(
                f"site {name!r} then has shape {[num_particles, *shape]}" for name, shape in drawn.items()
            )
        except Exception:
            shapes = "the guide fails too"
    return (
        f"the pair cannot run with {num_particles} particles at once, though it can with one: {short(error)}"
        + (f" (in {where})" if where else "")
        + f"; {shapes}. A net in the model receives latents of shape (K, B, ...): it must accept any number "
        "of leading dims, as nn.Linear does. Flatten no dims but the event's, z.flatten(-2) and not "
        "z.view(len(z), -1); fold the leading dims around a convolution, z.flatten(0, -2), and unfold them "
        "after it. One particle, num_particles=1, needs none of that"
    )


def _in_plate(found: re.Match[str]) -> Fault:
    size, got, dim = int(found["size"]), int(found["got"]), int(found["dim"])
    reason = (
        f"site {found['site']!r}: its distribution or its value has {got} entries along dim {dim} of the "
        f"batch, where the plate {found['plate']!r} has {size}"
    )
    return Fault(
        reason,
        f"If the {got} belong to one datum, put .to_event(n) on the distribution, so that one datum is one "
        f"event; if they are the data, the plate's size is theirs: `with pyro.plate({found['plate']!r}, "
        f"len(x), dim={dim}):`",
    )


def _of_sites(trace: Trace) -> Fault | None:
    for site in prune_subsample_sites(trace).nodes.values():
        if site["type"] != "sample":
            continue
        if found := parameter_fault(site):
            return Fault(*found)
        if outside := support_fault(site):
            way = COUNTS_IN_BYTES if are_bytes_over_255(site["value"]) else _INTO_SUPPORT
            return Fault(f"site {site['name']!r}: {outside}", way)
    return None


def _not_finite(args: Sequence[Any]) -> str:
    for arg in args:
        if isinstance(arg, Tensor) and arg.is_floating_point() and arg.dim():
            rows = (~arg.isfinite()).reshape(len(arg), -1).any(1).nonzero()
            if len(rows):
                return (
                    f" (the batch has NaN or infinite entries, first in datum {int(rows[0])}: clean or "
                    "mask them; where NaN is a missing value, nets.ColumnEncoder, likelihoods.Mixed take it)"
                )
    return ""


def sites_so_far(program: Program, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Trace:
    """The sites of a program up to where it fails, with no distribution checked."""
    messenger = poutine.trace_messenger.TraceMessenger()
    with _aside(*([program] if isinstance(program, nn.Module) else [])), validation(False):
        try:
            with messenger:
                program(*args, **(kwargs or {}))
        except Exception:
            pass  # it fails as before: the sites up to there are what is looked at
    return messenger.get_trace()


def _aside(*programs: Program) -> ExitStack:
    """Runs that leave no mark: in eval mode, without gradients,
    with random numbers and handlers of their own.
    """
    stack = ExitStack()
    stack.enter_context(torch.no_grad())
    stack.enter_context(poutine.block())
    stack.enter_context(random_numbers(0, torch.device("cpu")))
    stack.enter_context(eval_mode(*(each for each in programs if isinstance(each, nn.Module))))
    return stack


def _is_transformed() -> bool:
    """Whether torch traces or maps what runs now, and catches errors of its own."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    return (
        _get_current_dispatch_mode() is not None or torch._C._functorch.peek_interpreter_stack() is not None
    )


def users_line(error: BaseException) -> str:
    """The last line of the user's own code that an error came through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = frame.filename.replace("\\", "/").split("/")
        if not any(name in parts for name in _NOT_THE_PROGRAMS) and not any(
            p in ("models", "guides") for p in parts
        ):
            return f"{parts[-1]}, line {frame.lineno}: {frame.line}" if frame.line else ""
    return ""


def _keeps_data(guide: nn.Module, model: Program, args: Sequence[Any]) -> bool:
    """Whether an autoguide has parameters for the data of its first run, and this batch has another size."""
    found = [getattr(part, "prototype_trace", None) for part in guide.modules()]
    kept = [trace for trace in found if isinstance(trace, Trace)]
    if not kept:
        return False
    observed = [site for site in sites_so_far(model, args).nodes.values() if site.get("is_observed")]
    sizes = {
        frame.name: frame.size for site in observed for frame in site["cond_indep_stack"] if frame.dim == -1
    }
    frames = [
        frame
        for trace in kept
        for site in prune_subsample_sites(trace).nodes.values()
        for frame in site.get("cond_indep_stack", ())
    ]
    return any(frame.name in sizes and frame.size != sizes[frame.name] for frame in frames)


def is_autoguide(guide: nn.Module) -> bool:
    """Whether the guide is one of Pyro's automatic ones, or has one in it."""
    return any(isinstance(part, AutoGuide) for part in guide.modules())
