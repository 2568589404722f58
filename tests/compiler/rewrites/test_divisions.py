"""Rounded divisions: ATen's numbers, and its error for a divisor of zero."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch._inductor.codegen import cpp

from ppl_vae.compiler.graph import lower, prepare
from ppl_vae.compiler.rewrites import Setting
from tests.capture.helpers import needs_compiler

CPU = torch.device("cpu")
ROUNDED = {
    "floor": functools.partial(torch.div, rounding_mode="floor"),
    "trunc": functools.partial(torch.div, rounding_mode="trunc"),
    "floor_divide": torch.floor_divide,
    "remainder": torch.remainder,
    "in_place": lambda a, b: a.clone().div_(b, rounding_mode="trunc"),
}
FLOATS = [
    -torch.inf,
    -7.5,
    -1.0,
    -0.3,
    -0.1,
    -1e-8,
    -0.0,
    0.0,
    0.1,
    0.3,
    0.9,
    1.0,
    3.0,
    7e4,
    torch.inf,
    torch.nan,
]
WHOLE = [-128, -7, -3, -1, 0, 1, 2, 3, 7, 100, 127]
KINDS = {
    **dict.fromkeys((torch.float32, torch.float64, torch.float16, torch.bfloat16), FLOATS),
    **dict.fromkeys((torch.int8, torch.int32, torch.int64, torch.uint8), WHOLE),
}


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("name", ROUNDED)
def test_they_are_atens(name, dtype):
    function, values = ROUNDED[name], torch.tensor(KINDS[dtype]).to(dtype)
    divisors = values if dtype.is_floating_point else values[(values != 0) & (values != -1)]
    table, number = values[:, None].repeat(1, len(divisors)), divisors[3].item()

    def both(given):
        return [function(*given), function(given[0], number)]

    graph = lower(both, [table, divisors], CPU)
    for one, two in zip(graph(table, divisors), both([table, divisors]), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


LOOKS = "floor_divide_integral" in Path(cpp.__file__).read_text()


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(not LOOKS, reason="this Inductor divides without a look: a zero ends the process")
def test_a_zero_among_the_divisors_of_a_compiled_graph_is_an_error():
    ones, before = torch.ones(200_000, dtype=torch.int64), torch.get_num_threads()
    zero, a = ones.clone(), torch.arange(-100_000, 100_000)
    zero[123_456] = 0
    x = torch.arange(-100, 100) / 10
    torch.set_num_threads(2)
    try:

        def function(given):
            return [
                ROUNDED["trunc"](*given[:2]),
                given[2] // 0.1,
                given[2] % 0.1,
                given[2] // given[2].flip(0),
            ]

        run = prepare(function, [a, ones, x], Setting(CPU))
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            run(a, zero, x)
        for one, two in zip(run(a, ones * -3, x), function([a, ones * -3, x]), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)
    finally:
        torch.set_num_threads(before)
