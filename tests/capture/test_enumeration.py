"""A step under Pyro's TraceEnum_ELBO, captured as our EnumeratedELBO."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.capture import CaptureError
from ppl_vae.testing import check_pair
from tests.capture.helpers import captured_step, difference
from tests.models.test_semi_supervised_vae import LABELS, make


def test_pyros_enumeration_takes_the_same_step_as_ours(double):
    pairs = []
    for estimator in (TraceEnum_ELBO(max_plate_nesting=1), estimators.EnumeratedELBO()):
        torch.manual_seed(0)
        pair, x = make()
        step = captured_step(pair, estimator, torch.optim.SGD(pair.parameters(), lr=1e-3))
        torch.manual_seed(1)
        losses = [step(x, LABELS["mixed"]) for _ in range(3)]
        pairs.append((pair, torch.stack(losses)))
    assert torch.equal(pairs[0][1], pairs[1][1])
    assert difference(pairs[0][0], pairs[1][0]) == 0


def test_a_site_that_only_the_model_enumerates_is_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                k = pyro.sample("k", dist.Categorical(logits=self.logits), infer={"enumerate": "parallel"})
                pyro.sample("x", dist.Normal(k.to(x.dtype), 1.0), obs=x)

    class Guide(nn.Module):
        def forward(self, x):
            pass

    pair = pv.Pair(Model(), Guide())
    step = captured_step(
        pair, TraceEnum_ELBO(max_plate_nesting=1), torch.optim.SGD(pair.parameters(), lr=1e-3)
    )
    with pytest.raises(CaptureError, match="EnumeratedELBO"):
        step(torch.zeros(4))


def test_the_linter_accepts_ours_for_a_marked_site():
    pair, x = make()
    check_pair(pair, x, LABELS["mixed"], estimator=estimators.EnumeratedELBO())
