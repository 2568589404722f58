"""Compiled steps equal eager ones in number: pairs and estimators through Inductor,
on the same random numbers.

Each takes some seconds to compile, so that `make test` holds some pairs, each with another kind of
estimator. The whole grid, in both precisions, takes a quarter of an hour:

    make test ARGS="-m grid tests/capture/test_compiled.py"
"""

from __future__ import annotations

import functools

import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

import ppl_vae as pv
from ppl_vae import guides
from ppl_vae.estimators import (
    ELBO,
    IWAE,
    PIWAE,
    STL,
    TVO,
    VIMCO,
    DReG,
    MeanFieldELBO,
    Renyi,
    ReweightedWakeSleep,
)
from tests.capture.helpers import (
    EVERY_ESTIMATOR,
    PAIRS,
    TOLERANCE,
    assert_same_steps,
    estimator_name,
    images,
    inputs,
    needs_compiler,
    vae,
)
from tests.programs import BernoulliGuide, BernoulliModel, ChainGuide, ChainModel, Subsampled

pytestmark = [needs_compiler, pytest.mark.slow]


def flow(dtype):
    return vae(dtype, guide=functools.partial(guides.IAF, num_transforms=1, hidden=(4,)))


def chain(dtype):
    return pv.Pair(ChainModel(0.5), ChainGuide(0.5)).to(dtype)


def discrete(dtype):
    return pv.Pair(*(Subsampled(program, 50) for program in (BernoulliModel(), BernoulliGuide()))).to(dtype)


OTHERS = {
    "flow": (flow, lambda dtype: (images(dtype=dtype),)),
    "hierarchy, mask": (
        chain,
        lambda dtype: (
            torch.linspace(-1, 1, 12, dtype=dtype).reshape(6, 2),
            torch.tensor([[True, False]]).expand(6, 2).contiguous(),
        ),
    ),
    "discrete, subsampled": (
        discrete,
        lambda dtype: (torch.linspace(-1, 1, 6, dtype=dtype), torch.arange(6)),
    ),
}
EVERY_PAIR = {
    **{name: (PAIRS[name], lambda dtype, name=name: (inputs(name).to(dtype),)) for name in PAIRS},
    **OTHERS,
}


def descent(pair):
    # steps far longer than rounding; Adam would divide by gradients that are zero but for rounding
    return torch.optim.SGD(pair.parameters(), lr=1e-2, momentum=0.9)


def check(name, estimator, dtype):
    make, batch = EVERY_PAIR[name]
    assert_same_steps(make(dtype), estimator, [batch(dtype)], descent, backend="inductor", clip_norm=1.0)


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("convolutional", IWAE(2)),
        ("negative binomial", STL(2)),
        ("discrete, subsampled", VIMCO(3)),
        pytest.param("full rank", DReG(3), marks=pytest.mark.grid),
        pytest.param("dropout and batch norm", Trace_ELBO(), marks=pytest.mark.grid),
        pytest.param("laplace", PIWAE(2, 2), marks=pytest.mark.grid),
    ],
    ids=lambda value: value if isinstance(value, str) else estimator_name(value),
)
def test_compiled_steps_equal_eager_steps(name, estimator):
    check(name, estimator, torch.float32)


@pytest.mark.grid
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        *[(name, IWAE(2)) for name in EVERY_PAIR if name != "discrete, subsampled"],
        *[("gaussian", each) for each in EVERY_ESTIMATOR],
        ("full rank", ELBO()),
        ("full rank", TraceMeanField_ELBO(max_plate_nesting=1)),
        ("convolutional", DReG(2)),
        ("laplace", STL(2)),
        ("poisson", Renyi(0.5, 2)),
        ("negative binomial", MeanFieldELBO(2)),
        ("linear gaussian", TVO(3)),
        ("flow", DReG(2)),
        ("hierarchy, mask", ReweightedWakeSleep(3)),
        ("discrete, subsampled", VIMCO(3)),
        ("discrete, subsampled", ReweightedWakeSleep(3, insomnia=0.5)),
    ],
    ids=lambda value: value if isinstance(value, str) else estimator_name(value),
)
def test_the_whole_grid(name, estimator, dtype):
    check(name, estimator, dtype)
