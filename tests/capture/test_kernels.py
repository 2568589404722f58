"""Adam in a loop of ours against torch's own kernel, option by option."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.capture import kernels
from ppl_vae.capture.rewrites import native
from tests.capture.helpers import needs_compiler

SHAPES = [(), (0,), (3,), (257, 129), (20_001,)]


def state(seed):
    generator = torch.Generator().manual_seed(seed)
    parameters, gradients = ([torch.randn(s, generator=generator) for s in SHAPES] for _ in range(2))
    moments = {
        name: [torch.rand(s, generator=generator) for s in SHAPES] for name in ("exp_avg", "exp_avg_sq")
    }
    steps = [torch.tensor(float(1 + place)) for place in range(len(SHAPES))]
    return kernels.Together(parameters, gradients, moments | {"step": steps})


@needs_compiler
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 0.3}, {"maximize": True}, {"betas": (0.0, 0.5)}], ids=str
)
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_adam_moves_what_torchs_does(options, decoupled, threads, monkeypatch):
    own, torchs = state(0), state(0)
    chosen = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}
    chosen |= {"decoupled_weight_decay": decoupled} | options
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert native.library() is not None
        for _ in range(3):
            kernels.adam(own, 0.1, chosen, None)
        monkeypatch.setattr(native, "library", lambda: None)
        for _ in range(3):
            kernels.adam(torchs, 0.1, chosen, None)
    finally:
        torch.set_num_threads(before)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(own.state[name], torchs.state[name], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(own.parameters, torchs.parameters, rtol=1e-5, atol=1e-6)
    assert own.parameters[2]._version == 3, "autograd is told, as of any change in place"


@needs_compiler
@pytest.mark.parametrize("change", ["amsgrad", "float64"])
def test_what_it_does_not_know_goes_to_torch(change):
    moving = state(0)
    options = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}
    if change == "amsgrad":
        options["amsgrad"] = True
        moving.state["max_exp_avg_sq"] = [each.clone() for each in moving.state["exp_avg_sq"]]
    else:
        moving = kernels.Together(
            *([each.double() for each in part] for part in moving[:2]),
            {name: [each.double() for each in part] for name, part in moving.state.items()},
        )
    assert not kernels.is_plain(moving.parameters, options)
    before = moving.parameters[2].clone()
    moving.state["step"] = [each.float() for each in moving.state["step"]]
    kernels.adam(moving, 0.1, options, None)
    assert not torch.equal(before, moving.parameters[2])
