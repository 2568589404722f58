"""Programs from elsewhere under Pyro's SVI, ours, and ours captured: the same numbers step for step,
or refused.
"""

from __future__ import annotations

import pyro
import pytest
import torch

import ppl_vae as pv
from ppl_vae.capture import CaptureError
from tests.attacks.tutorial_programs import PROGRAMS, REFUSED

STEPS = 7


def trained(kind, name, **options):
    """Losses step for step, and the parameters afterwards."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    model, guide, loss, batches = PROGRAMS[name]()
    svi = kind(model, guide, pyro.optim.Adam({"lr": 0.01}), loss, **options)
    for program in getattr(svi, "_captured", {}).values():
        if program is not None:
            program.backend, program.same_noise = "graph", True
    losses = []
    for number in range(STEPS):
        torch.manual_seed(number)
        losses.append(svi.step(*batches[number % len(batches)]))
    store = pyro.get_param_store()
    return losses, {key: value.detach().clone() for key, value in store.items()}, svi


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_step_for_step(name):
    losses, parameters, _ = trained(pyro.infer.SVI, name)
    ours = trained(pv.SVI, name)
    assert ours[0] == losses
    assert all(torch.equal(ours[1][key], value) for key, value in parameters.items())
    if name in REFUSED:
        with pytest.raises(CaptureError, match=REFUSED[name]):
            trained(pv.SVI, name, capture=True)
        return
    captured = trained(pv.SVI, name, capture=True)
    assert captured[2].graphs > 0
    assert captured[0] == pytest.approx(losses, rel=1e-9)
    for key, value in parameters.items():
        torch.testing.assert_close(captured[1][key], value, rtol=1e-9, atol=1e-9)
    captured[2].verify()
