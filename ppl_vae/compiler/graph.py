"""From recorded operations to a compiled graph: lowered on fake tensors, then given to a compiler."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae.compiler import CompileError, inductor, known, native
from ppl_vae.compiler.memory import keep_memory, without_collection
from ppl_vae.compiler.processor import compiler
from ppl_vae.compiler.rewrites import Setting, operators, rewrite, rounding
from ppl_vae.compiler.rewrites.rounding import in_bfloat16
from ppl_vae.compiler.unit import Unit
from ppl_vae.core.isolation import one_thread

Function = Callable[[list[Tensor]], list[Tensor]]
Compiled = Callable[..., Sequence[Tensor]]


@one_thread  # torch traces and compiles for one at a time, and does not say so
def prepare(
    function: Function, inputs: Sequence[Tensor], setting: Setting, signature: known.Signature | None = None
) -> Compiled:
    """`lower` and `compile_graph`: twice where C++ of ours that was to be in the graph does not compile, and
    not at all where a graph of the signature is known.

    Raises:
        CompileError: as they do.
    """
    if setting.compiles_for_cpu:
        keep_memory()
    if signature is not None and (found := known.find(signature)) is not None:
        return found
    made: list[Unit] | None = None if signature is None else []
    with without_collection():
        if setting.compiles_for_cpu and compiler() is not None:
            native.start()
        while True:
            graph = lower(function, inputs, setting.device, same_noise=setting.same_noise)
            compiled = compile_graph(graph, inputs, setting, made)
            ours = any(node.target in native.OPERATORS for node in graph.graph.nodes)
            if not ours or native.library() is not None:
                break
    if signature is not None and made:
        known.keep(signature, made[-1], len(inputs))
    return compiled


def lower(
    function: Function, inputs: Sequence[Tensor], device: torch.device, *, same_noise: bool = True
) -> fx.GraphModule:
    """The operations of `function` on tensors like `inputs`, changes to them included,
    as a compiler likes them.

    Args:
        function: from a list of tensors to one; of recorded operations and of what comes behind them.
        inputs: tensors like those that it will be called with.
        device: where it runs.
        same_noise: see `Setting`.

    Raises:
        Exception: torch's, for an operation that has no form with fixed shapes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make = make_fx(
            lambda *tensors: function(list(tensors)),
            tracing_mode="fake",
            decomposition_table=operators(Setting(device, same_noise)),
        )
        graph: fx.GraphModule = make(*[tensor.detach() for tensor in inputs])
    # a plain list of placeholders, without the pytree of the traced function's signature
    graph.graph.set_codegen(fx.graph.CodeGen())
    graph.graph.eliminate_dead_code(lambda node: node.is_impure() or hides_writes(node.target))
    graph.recompile()
    return graph


def hides_writes(op: Any) -> bool:
    """Whether an operator changes running means and variances, which its schema does not say."""
    name = getattr(op, "__name__", "")
    return "batch_norm" in name and "backward" not in name


def compile_graph(
    graph: fx.GraphModule, inputs: Sequence[Tensor], setting: Setting, made: list[Unit] | None = None
) -> Compiled:
    """A function of the inputs, one argument each.

    Args:
        graph: from `lower`.
        inputs: tensors to compile for.
        setting: what for.
        made: takes what Inductor makes of it.

    Raises:
        CompileError: without a C++ compiler, where Inductor fails, or for another precision than float32
            elsewhere than on a CPU.
    """
    rounds = setting.matmul_precision == "bf16"
    if rounds and not setting.on_cpu:
        raise CompileError(
            "matmul_precision='bf16' is for a CPU; elsewhere fit(precision='bf16') runs the nets in bfloat16"
        )
    if rounds and not rounding.has_products():
        warnings.warn(
            "matmul_precision='bf16' changes nothing: this processor has no such products (AMX)", stacklevel=2
        )
        rounds, setting = False, setting._replace(matmul_precision="float32")
    rewrite(graph, setting)
    run: Compiled = graph
    if setting.backend == "inductor":
        if setting.on_cpu:
            inductor.require_compiler()
        run = inductor.compile(graph, inputs, made, torchs_noise=setting.same_noise or setting.on_cpu)
    return in_bfloat16(run) if rounds else run
