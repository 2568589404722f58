"""torch's compiler, Inductor: its door for a graph that is traced already, and what it is to leave out."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, fx

from ppl_vae.compiler import CompileError
from ppl_vae.compiler.inductor_private import (
    known_operators,
    quick_ranges,
    quick_templates,
    rounds_casts,
    without_fused_outer_loops,
)
from ppl_vae.compiler.processor import compiler, quiet_import, unprobed
from ppl_vae.compiler.unit import Unit, one_unit

# it says that nothing can be saved, which is done by `known`
_LOG = logging.getLogger("torch._inductor.standalone_compile")


def compile(
    graph: fx.GraphModule, inputs: Sequence[Tensor], made: list[Unit] | None = None, *, torchs_noise: bool
) -> Any:
    """A function of the inputs, compiled.

    Args:
        graph: plain tensor operations.
        inputs: tensors to compile for.
        made: takes what Inductor makes of it on a CPU; without it Inductor keeps that itself, and may find
            it on the disk.
        torchs_noise: draw random numbers with torch's own generators.

    Raises:
        CompileError: where Inductor fails, with its first line.
    """
    plain = [tensor.detach() for tensor in inputs]
    memory = {each.untyped_storage()._cdata for each in plain if each.layout == torch.strided}
    # its key does not know which inputs share memory
    kept_by_it = made is None and len(memory) == len(plain)
    settings = {"fallback_random": torchs_noise, "fx_graph_cache": kept_by_it}
    on_cpu = all(tensor.device.type == "cpu" for tensor in plain)
    if on_cpu:
        # no search for patterns, of which a recording below autograd has none: with torch's noise that would
        # trace some fifty forms of attention; no third form of each loop for what vectors leave over; no
        # parts for CUDA's graphs; and at each call no look at shapes, for each of which there is a graph
        off = ("pattern_matcher", "cpp.enable_loop_tail_vec", "graph_partition")
        settings |= dict.fromkeys((*off, "size_asserts", "alignment_asserts"), False)
        settings["emulate_precision_casts"] = True  # a number that is cast to 16 bits and back is rounded
    # the fastest first; the last without all that is private to torch, but for one fusion that may fail
    together = functools.partial(one_unit, [] if made is None else made)
    quickly = (quick_templates, known_operators, together, quick_ranges, unprobed)
    attempts = [quickly, (*quickly, without_fused_outer_loops)]
    for attempt in [*attempts, (without_fused_outer_loops,)] if on_cpu else [()]:
        try:
            return _compile(graph, plain, settings, attempt)
        except Exception as error:
            last = error
    raise CompileError(f"Inductor could not compile the step: {_reason(last)}") from last


def _reason(error: Exception) -> str:
    """The first line of an error, and what a C++ compiler says in it."""
    first, *others = str(error).strip().splitlines() or [""]
    said = next((line.strip() for line in others if "error:" in line), "")
    return f"{type(error).__name__}: {first}{': ' if said else ''}{said}"


def _drop(_: logging.LogRecord) -> bool:
    return False


def require_compiler() -> None:
    """Raise CompileError unless a C++ compiler is there, which Inductor needs on a CPU."""
    if compiler() is None:
        raise CompileError("no C++ compiler was found, which compiling for a CPU needs: install g++ or clang")


def _compile(
    graph: fx.GraphModule,
    plain: list[Tensor],
    settings: dict[str, Any],
    around: Sequence[Callable[[], AbstractContextManager[None]]],
) -> Any:
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(quiet_import())
        _LOG.addFilter(_drop)
        stack.callback(_LOG.removeFilter, _drop)
        from torch._inductor import config, standalone_compile

        known = {name: value for name, value in settings.items() if name in config.get_config_copy()}
        stack.enter_context(config.patch(known))
        for each in around:
            stack.enter_context(each())
        if "emulate_precision_casts" in known and not rounds_casts():
            stack.enter_context(config.patch(emulate_precision_casts=False))
        return standalone_compile(graph, list(plain), dynamic_shapes="from_example_inputs", options={})
