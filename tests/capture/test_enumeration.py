"""A step under Pyro's TraceEnum_ELBO, captured as it is."""

from __future__ import annotations

import torch
from pyro.infer import TraceEnum_ELBO

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.testing import check_pair
from ppl_vae.train.step import Step
from tests.capture.helpers import captured_step, difference
from tests.core.summed_programs import Clusters, Empty
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
    torch.testing.assert_close(pairs[0][1], pairs[1][1])
    assert difference(pairs[0][0], pairs[1][0]) < 1e-15


def test_a_site_that_only_the_model_enumerates_takes_pyros_step(double):
    losses = []
    for captured in (False, True):
        torch.manual_seed(0)
        pair, x = pv.Pair(Clusters("parallel"), Empty()), torch.linspace(-1.0, 2.0, 6)
        estimator = TraceEnum_ELBO(max_plate_nesting=1)
        optimizer = torch.optim.SGD(pair.parameters(), lr=1e-2)
        step = captured_step(pair, estimator, optimizer) if captured else Step(pair, estimator, optimizer)
        losses.append(torch.stack([step(x) for _ in range(3)]))
    assert losses[0].std() > 0
    torch.testing.assert_close(losses[1], losses[0])


def test_the_linter_accepts_ours_for_a_marked_site():
    pair, x = make()
    check_pair(pair, x, LABELS["mixed"], estimator=estimators.EnumeratedELBO())
