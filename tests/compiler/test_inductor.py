"""Contact with Inductor: private names that are gone, attempts that fail, kernels compiled together."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from ppl_vae.compiler import CompileError, inductor, processor
from ppl_vae.compiler.graph import compile_graph, lower
from ppl_vae.compiler.inductor_private import PRIVATE, rounds_casts, without_fused_outer_loops
from ppl_vae.compiler.rewrites import Setting
from tests.capture.helpers import needs_compiler

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_is_there(name: str) -> None:
    """Without it nothing is wrong, and something slower: see what PRIVATE says of it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        assert functools.reduce(getattr, parts[length:], found) is not None
        return
    pytest.fail(f"{name}: no module of it is there")


def test_a_failure_is_tried_again_without_what_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    cpp = pytest.importorskip("torch._inductor.codegen.cpp")
    fuses = cpp.CppScheduling.can_fuse_vertical_outer_loop
    seen = []

    def compile(graph: Any, plain: Any, settings: Any, around: Any) -> str:
        with ExitStack() as stack:
            for each in around:
                stack.enter_context(each())
            seen.append((len(around), cpp.CppScheduling.can_fuse_vertical_outer_loop is fuses))
        if around != (without_fused_outer_loops,):
            raise KeyError("buf77")
        return "compiled"

    monkeypatch.setattr(inductor, "_compile", compile)
    assert inductor.compile(None, [torch.zeros(1)], torchs_noise=True) == "compiled"  # type: ignore[arg-type]
    assert seen == [(5, True), (6, False), (1, False)]
    assert cpp.CppScheduling.can_fuse_vertical_outer_loop is fuses


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no such\nthing", "no such"),
        ("C++ failed\n\nx.cpp:1: warning: so\n x.cpp:3:5: error: no\n", "C++ failed: x.cpp:3:5: error: no"),
    ],
    ids=["the first line", "the compiler's own"],
)
def test_a_last_failure_is_said(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(inductor, "_compile", fail)
    with pytest.raises(CompileError, match=rf"could not compile the step: RuntimeError: {re.escape(said)}$"):
        inductor.compile(None, [torch.zeros(1)], torchs_noise=True)  # type: ignore[arg-type]


@needs_compiler
@pytest.mark.slow
def test_kernels_compiled_together_are_each_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three loops with products between them, whose sizes leave vectors something over."""
    from torch._inductor import codecache

    files = []
    real = codecache.CppBuilder.build
    monkeypatch.setattr(codecache.CppBuilder, "build", lambda self: files.append(self) or real(self))

    def function(inputs: list[Tensor]) -> list[Tensor]:
        x, matrix = inputs
        first = torch.exp(-x.square()) @ matrix
        second = torch.tanh(first + x[:, :1]) @ matrix.t()
        return [second.cos().sum(0), first.amax(1)]

    inputs = [torch.randn(7, 19, dtype=torch.float64), torch.randn(19, 23, dtype=torch.float64)]
    compiled = compile_graph(lower(function, inputs, CPU), inputs, Setting(torch.device("cpu")))
    for _ in range(2):
        for one, two in zip(compiled(*inputs), function(inputs), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
        inputs[0].mul_(0.5)
    assert len([each for each in files if ".main" in str(each._target_file)]) <= 2, "one, and the denormals'"


@needs_compiler
def test_a_number_that_is_cast_to_16_bits_and_back_is_rounded() -> None:
    """As it is where a program stands for a quantizer: x + (rounded(x) - x).detach()."""
    if not rounds_casts():
        pytest.skip("this Inductor leaves casts to 16 bits and back out")

    def function(inputs: list[Tensor]) -> list[Tensor]:
        (x,) = inputs
        return [x.half().float(), x + (x.bfloat16().float() - x), (x.half() + 2048).float()]

    x = torch.tensor([0.3, 0.9, 1.5, 7e4, -1e-8]).repeat(7)
    compiled = compile_graph(lower(function, [x], CPU), [x], Setting(CPU))
    for one, two in zip(compiled(x), function([x]), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_a_toolkit_without_a_gpu_is_not_spoken_of(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TORCH_WARM_POOL", raising=False)
    log = logging.getLogger("torch.utils.cpp_extension")
    for inside in (True, False):
        with processor.quiet_import() if inside else nullcontext():
            assert ("TORCH_WARM_POOL" in os.environ) is inside
            log.warning("No CUDA runtime is found")
    assert len(caplog.records) == 1


def test_an_instruction_is_probed_for_where_the_compiler_does_not_know_it(monkeypatch):
    isa = pytest.importorskip("torch._inductor.cpu_vec_isa")
    monkeypatch.setattr(isa.VecISA, "check_build", lambda self, code: "probed")
    capability = torch.backends.cpu.get_cpu_capability()
    vectors = {"AVX2": isa.VecAVX2, "AVX512": isa.VecAVX512}.get(capability)
    if vectors is None or processor.compiler() is None:
        pytest.skip("needs a compiler, and vectors that have flags")
    one, other = vectors(), vectors()
    other._arch_flags += " -mno-such-instruction"
    with processor.unprobed():
        assert one.check_build("") is True
        assert other.check_build("") == "probed"
        processor.knows.cache_clear()
        monkeypatch.setattr(processor, "compiler", lambda: "no such compiler")
        assert one.check_build("") == "probed"
    processor.knows.cache_clear()
