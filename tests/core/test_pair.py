"""Pair: where it lives, what it remembers, and what it does to Pyro's parameter store."""

from __future__ import annotations

import copy

import pyro
import pytest
import torch
from torch import nn

from ppl_vae import Pair
from tests.oracle import make_pair


def test_a_program_must_be_callable():
    with pytest.raises(TypeError, match=r"the guide must be a torch\.nn\.Module or a function"):
        Pair(nn.Linear(1, 1), torch.zeros(3))


def test_a_pair_that_has_seen_no_data_says_so():
    with pytest.raises(ValueError, match="this pair has not seen data"):
        make_pair().blank_batch(3)


def test_a_blank_batch_imitates_the_data():
    pair = make_pair()
    pair.remember((torch.ones(7, 5, dtype=torch.float64), torch.ones(7, dtype=torch.long)))
    x, y = pair.blank_batch(3)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((3, 5), torch.float64, (3,), torch.int64)
    assert not x.any()
    assert not y.any()


def test_registered_programs_leave_frozen_parameters_out():
    pair = make_pair()
    pair.model.bias.requires_grad_(False)
    model, guide = pair.pyro()
    assert pair.pyro() == (model, guide), "the programs are made once, so that optimisers keep their state"
    x = torch.zeros(2, 5)
    traces = [pyro.poutine.trace(program).get_trace(x) for program in (model, guide)]
    names = [name for trace in traces for name, site in trace.nodes.items() if site["type"] == "param"]
    assert len(names) == len(list(pair.parameters())) - 1
    assert not any("bias" in name and "model" in name for name in names)
    pair.forget_pyro()
    assert not list(pyro.get_param_store())


def test_a_copy_is_a_pair_of_its_own():
    pair = make_pair()
    pair.pyro()[0](torch.zeros(2, 5))
    other = copy.deepcopy(pair)
    other.pyro()[0](torch.zeros(2, 5))
    other.model.bias.data.fill_(3.0)
    assert (pair.model.bias != 3.0).all()
    assert len(pyro.get_param_store()) == 2 * len(list(pair.model.parameters()))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_pair_moves_to_cuda():
    pair = make_pair().to("cuda")
    pair.remember((torch.zeros(2, 5),))
    assert pair.device.type == "cuda"
    assert pair.blank_batch(2)[0].is_cuda
