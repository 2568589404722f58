"""What ATen does at the edges of types and ranges, compiled graphs do too."""

from __future__ import annotations

import pytest
import torch
from torch._inductor import lowering
from torch.nn import functional as F

from ppl_vae.compiler.graph import prepare
from ppl_vae.compiler.rewrites import Setting
from tests.capture.helpers import needs_compiler

CPU = torch.device("cpu")
LOOKS = any(op is torch.ops.aten._assert_async.msg for op in lowering.lowerings)


def beyond_a_type():
    """Whether torch itself takes a bound that is beyond the type."""
    try:
        return bool(torch.ones(1, dtype=torch.uint8).clamp(0, 300).all())
    except RuntimeError:
        return False


def at_the_edges(tensors):
    small, signed, grid = tensors
    pictures = torch.arange(9.0).reshape(1, 1, 3, 3)
    return [
        small.clamp(0, 300),
        small.clamp(-5, 100),
        small.clamp_min(-1),
        small.clamp_max(256),
        small.clone().clamp_(-1, 7),
        signed.clamp(-300, 300),
        signed.clamp(-300, 3),
        signed.clamp(-1, 1),
        small.any(),
        small.reshape(16, 16).any(1),
        small.reshape(16, 16).any((0, 1), keepdim=True),
        (small > 3).any(),
        F.grid_sample(pictures, grid, align_corners=True),
    ]


@needs_compiler
@pytest.mark.skipif(not beyond_a_type(), reason="this torch refuses bounds beyond a type")
def test_numbers_and_types_at_the_edges_are_atens():
    grid = torch.linspace(-1, 1, 18).reshape(1, 3, 3, 2)
    grid[0, 1, 1, 0] = grid[0, 2, 2] = torch.nan
    inputs = [torch.arange(256).to(torch.uint8), torch.arange(-128, 128).to(torch.int8), grid]
    found = prepare(at_the_edges, inputs, Setting(CPU))(*inputs)
    for each, expected in zip(found, at_the_edges(inputs), strict=True):
        torch.testing.assert_close(each, expected, equal_nan=True)


REFUSALS = {
    "assert": lambda tensors: [(torch._assert_async((tensors[0] > 0).all()), tensors[0] * 2)[1]],
    "cross entropy": lambda tensors: [F.binary_cross_entropy(tensors[0], torch.ones(8))],
}


@needs_compiler
@pytest.mark.skipif(not LOOKS, reason="this Inductor drops what a program asserts")
@pytest.mark.parametrize("name", REFUSALS)
def test_what_aten_refuses_a_compiled_graph_refuses(name):
    good = [torch.full((8,), 0.3)]
    run = prepare(REFUSALS[name], good, Setting(CPU))
    torch.testing.assert_close([*run(*good)], REFUSALS[name](good))
    for bad in ([-good[0]], [good[0] * torch.nan]):
        with pytest.raises(RuntimeError) as written:
            REFUSALS[name](bad)
        with pytest.raises(RuntimeError) as compiled:
            run(*bad)
        assert str(compiled.value) == str(written.value)
