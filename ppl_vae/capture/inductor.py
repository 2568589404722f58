"""All contact with Inductor's compiler, parts of which are private to torch."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ppl_vae.capture.capture_error import CaptureError


def compile(graph: fx.GraphModule, inputs: Sequence[Tensor], *, torchs_noise: bool) -> Any:
    """A function of the inputs, compiled, or found on the disk where it has been compiled before.

    Args:
        graph: plain tensor operations.
        inputs: tensors to compile for.
        torchs_noise: draw random numbers with torch's own generators.

    Raises:
        CaptureError: where Inductor fails, with its first line.
    """
    plain = [tensor.detach() for tensor in inputs]
    try:
        try:
            return _compile(graph, plain, torchs_noise)
        except Exception:
            if any(tensor.device.type != "cpu" for tensor in plain):
                raise
            # where it fuses loops of several depths, torch 2.15 asks what a kernel reads of a buffer that it
            # only waits for
            with _without_fused_outer_loops():
                return _compile(graph, plain, torchs_noise)
    except Exception as error:
        text = str(error).strip().splitlines()
        raise CaptureError(
            f"Inductor could not compile the step: {type(error).__name__}: {text[0] if text else ''}"
        ) from error


def require_compiler() -> None:
    """Raise CaptureError unless a C++ compiler is there, which Inductor needs on a CPU."""
    from torch._inductor import config

    wanted = config.cpp.cxx if isinstance(config.cpp.cxx, tuple | list) else (config.cpp.cxx,)
    if not any(name and shutil.which(name) for name in wanted):
        raise CaptureError("no C++ compiler was found, which compiling for a CPU needs: install g++ or clang")


def _compile(graph: fx.GraphModule, plain: list[Tensor], torchs_noise: bool) -> Any:
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        config.patch(fallback_random=torchs_noise),
        tracing(_static_shapes()),
    ):
        warnings.simplefilter("ignore")
        return compile_fx(graph, plain)


def _static_shapes() -> TracingContext:
    """What Inductor wants to have before it looks for a compiled graph on the disk,
    which saves 10 s of its work.
    """
    shapes = ShapeEnv(assume_static_by_default=True)
    return TracingContext(FakeTensorMode(shape_env=shapes, static_shapes=True))


@contextmanager
def _without_fused_outer_loops() -> Iterator[None]:
    from torch._inductor.codegen.cpp import CppScheduling

    name = "can_fuse_vertical_outer_loop"
    fuses = getattr(CppScheduling, name, None)
    if fuses is None:
        yield
        return
    setattr(CppScheduling, name, lambda *_: False)
    try:
        yield
    finally:
        setattr(CppScheduling, name, fuses)
