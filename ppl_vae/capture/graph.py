"""From recorded operations to a compiled graph: lowered on fake tensors, then given to a compiler."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae.capture import inductor
from ppl_vae.capture.capture_error import CaptureError, explain
from ppl_vae.capture.denormals import without_denormals_anywhere
from ppl_vae.capture.memory import keep_memory
from ppl_vae.capture.rewrites import Setting, operators, rewrite, rounding
from ppl_vae.capture.rewrites.rounding import MatmulPrecision, in_bfloat16

Backend = Literal["inductor", "graph"]
Function = Callable[[list[Tensor]], list[Tensor]]
Compiled = Callable[..., Sequence[Tensor]]


def lower(
    function: Function, inputs: Sequence[Tensor], device: torch.device, *, same_noise: bool = True
) -> fx.GraphModule:
    """The operations of `function` on tensors like `inputs`, changes to them included,
    as a compiler likes them.

    Args:
        function: from a list of tensors to one; of recorded operations and updates of parameters.
        inputs: tensors like those that it will be called with.
        device: where it runs.
        same_noise: torch's random operators as they are; else on a CPU those of `Noise`, several times
            as fast.

    Raises:
        CaptureError: for an operation that has no form with fixed shapes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make = make_fx(
                lambda *tensors: function(list(tensors)),
                tracing_mode="fake",
                decomposition_table=operators(Setting(device, same_noise)),
                _allow_non_fake_inputs=True,  # a recording's constants
            )
            graph: fx.GraphModule = make(*[tensor.detach() for tensor in inputs])
    except Exception as error:
        raise explain(error) from error
    # a plain list of placeholders, without the pytree of the traced function's signature
    graph.graph.set_codegen(fx.graph.CodeGen())
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def compile_graph(
    graph: fx.GraphModule,
    inputs: Sequence[Tensor],
    backend: Backend,
    same_noise: bool,
    matmul_precision: MatmulPrecision = "float32",
    after: Callable[[Sequence[Tensor]], None] | None = None,
) -> Compiled:
    """A function of the inputs, one argument each.

    Args:
        graph: from `lower`.
        inputs: tensors to compile for; on a CPU they serve to time the matrix products.
        backend: "inductor" compiles; "graph" runs the traced operations one by one.
        same_noise: on a GPU, draw with torch's own generators, as the eager step does; Inductor's random
            numbers are faster, as good, and others. On a CPU, `lower` has seen to it.
        matmul_precision: of the factors of matrix products and convolutions, see `rounding`.
        after: what is done with its results each time, as part of it.

    Raises:
        CaptureError: without a C++ compiler, where Inductor fails, or for another precision than float32
            elsewhere than on a CPU.
    """
    device = next((tensor.device for tensor in inputs if tensor.device.type != "cpu"), torch.device("cpu"))
    if matmul_precision == "bf16" and device.type != "cpu":
        raise CaptureError(
            "matmul_precision='bf16' is for a CPU; elsewhere fit(precision='bf16') runs the nets in bfloat16"
        )
    rewrite(graph, Setting(device, same_noise, matmul_precision, compiled=backend != "graph"))
    if backend == "graph":
        return _followed(graph, after)
    if device.type == "cpu":
        inductor.require_compiler()
        keep_memory()
    compiled: Any = inductor.compile(graph, inputs, torchs_noise=same_noise or device.type == "cpu")
    if matmul_precision == "bf16" and rounding.has_products():
        compiled = in_bfloat16(compiled)
    compiled = _followed(compiled, after)
    return without_denormals_anywhere(compiled) if device.type == "cpu" else cast(Compiled, compiled)


def _followed(run: Compiled, after: Callable[[Sequence[Tensor]], None] | None) -> Compiled:
    if after is None:
        return run

    def both(*inputs: Tensor) -> Sequence[Tensor]:
        results = run(*inputs)
        after(results)
        return results

    return both
