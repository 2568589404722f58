"""Adam and its kin in a loop of ours against torch's own steps, option by option."""

from __future__ import annotations

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from ppl_vae.compiler import kernels, native
from tests.capture.helpers import needs_compiler

SHAPES = [(), (0,), (3,), (257, 129), (20_001,)]


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def own_step(optimizer, gradients):
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = gradients.get(id(parameter))
    optimizer.step()


def gradients_of(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    return {id(each): torch.randn(each.shape, generator=generator).to(each.dtype) for each in parameters}


ADAM = torch.optim.Adam, torch.optim.AdamW
OPTIONS = [{}, {"weight_decay": 0.3}, {"maximize": True}, {"betas": (0.0, 0.5)}, {"betas": (0.0, 0.0)}]
CASES = [(kind, options) for kind in ADAM for options in OPTIONS]
CASES += [(torch.optim.Adamax, {"weight_decay": 0.1}), (ClippedAdam, {"clip_norm": 0.5, "lrd": 0.9})]
CASES += [(kind, {"betas": (0.0, 0.0)}) for kind in (torch.optim.Adamax, ClippedAdam)]


@needs_compiler
@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_step_moves_what_the_optimizers_own_does(kind, options, threads):
    own, torchs = parameters(), parameters()
    optimizers = [kind(each, lr=0.1, **options) for each in (own, torchs)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert native.library() is not None
        for step in range(4):
            one, two = (gradients_of(each, step) for each in (own, torchs))
            if kernels.move(optimizers[:1], one):
                assert step == 0, "which makes the state"
                own_step(optimizers[0], one)
            own_step(optimizers[1], two)
    finally:
        torch.set_num_threads(before)
    for one, two in zip(own, torchs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        for name, value in optimizers[1].state[two].items():
            found = optimizers[0].state[one][name]
            torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-6)
    assert optimizers[0].param_groups[0]["lr"] == optimizers[1].param_groups[0]["lr"]
    assert own[2]._version >= 3, "autograd is told, as of any change in place"


@needs_compiler
@pytest.mark.parametrize("kind", kernels.KINDS)
def test_what_is_infinite_is_what_the_optimizers_own_step_makes_of_it(kind):
    """A masked logit stays -inf where there is no decay; an infinite gradient, a NaN."""
    found = []
    for captured in (False, True):
        own = torch.nn.Parameter(torch.tensor([-torch.inf, torch.inf, 1.0, 2.0, 3.0, 4.0]))
        optimizer = kind([own], lr=0.1, **({"clip_norm": torch.inf} if kind is ClippedAdam else {}))
        for step in range(4):
            gradient = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
            if step == 2:
                gradient[3:] = torch.tensor([torch.nan, torch.inf, -torch.inf])
            if not captured or kernels.move([optimizer], {id(own): gradient}):
                own_step(optimizer, {id(own): gradient})
        found.append([own.data, *(optimizer.state[own][name] for name in ("exp_avg", kernels.KINDS[kind]))])
    assert found[0][0][:2].tolist() == [-torch.inf, torch.inf]
    for torchs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, equal_nan=True)


def amsgrad(optimizer, gradients):
    optimizer.param_groups[0]["amsgrad"] = True


def a_hook(optimizer, gradients):
    optimizer.register_step_pre_hook(lambda *_: None)


def a_step_of_its_own(optimizer, gradients):
    optimizer.step = lambda: None


def no_state(optimizer, gradients):
    optimizer.state.clear()


def columns_first(optimizer, gradients):
    key = next(key for key, each in gradients.items() if each.dim() == 2)
    gradients[key] = gradients[key].t().contiguous().t()


def float64(optimizer, gradients):
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.data = parameter.data.double()


@needs_compiler
@pytest.mark.parametrize("change", [amsgrad, a_hook, a_step_of_its_own, no_state, columns_first, float64])
def test_what_it_does_not_know_is_left_alone(change):
    own = parameters()
    optimizer = torch.optim.Adam(own, lr=0.1)
    gradients = gradients_of(own, 0)
    own_step(optimizer, gradients)
    assert kernels.move([optimizer], {}) == []
    change(optimizer, gradients)
    before = [each.detach().clone() for each in own]
    assert kernels.move([optimizer], gradients) == [optimizer]
    assert all(torch.equal(one, two) for one, two in zip(before, own, strict=True))


def one_for_all(own):
    return [torch.optim.Adam(own)]


def one_for_each(own):
    return [torch.optim.Adam([each]) for each in own]


def another_kind_too(own):
    return [torch.optim.Adam(own[:1]), torch.optim.SGD(own[1:])]


@needs_compiler
@pytest.mark.parametrize("make", [one_for_all, one_for_each, another_kind_too])
def test_what_shares_memory_is_moved_by_one_optimizer_after_the_other(make):
    memory = torch.randn(30)
    apart = [torch.nn.Parameter(torch.randn(20)), torch.nn.Parameter(torch.randn(20))]
    side_by_side = [torch.nn.Parameter(each) for each in (memory[:15], memory[15:])]
    overlapping = [torch.nn.Parameter(each) for each in (memory[:20], memory[10:])]
    for own, alone in (apart, False), (side_by_side, make is another_kind_too), (overlapping, True):
        optimizers, gradients = make(own), gradients_of(own, 0)
        for optimizer in optimizers:
            own_step(optimizer, gradients)
        known = [each for each in optimizers if isinstance(each, torch.optim.Adam)]
        left = kernels.move(optimizers, gradients)
        assert left == optimizers if alone else not set(left) & set(known)
        if own is apart:  # and from a step on that puts one in the other's place
            own[1].data = own[0].data
            assert kernels.move(optimizers, gradients) == optimizers


@needs_compiler
def test_moments_that_share_memory_are_left_alone():
    own = [torch.nn.Parameter(torch.randn(20)) for _ in range(2)]
    optimizer, gradients = torch.optim.Adam(own), gradients_of(own, 0)
    own_step(optimizer, gradients)
    optimizer.state[own[1]]["step"] = optimizer.state[own[0]]["step"]
    assert kernels.move([optimizer], gradients) == [optimizer]


def test_a_fused_step_that_is_unfit_moves_nothing():
    """As a GPU finds out for itself; torch's fused step on a CPU knows it too."""
    from ppl_vae.capture.moves import _step_as_written

    own = parameters()
    optimizer = torch.optim.Adam(own, lr=0.1, fused=True)
    before = [each.detach().clone() for each in own]
    _step_as_written(optimizer, gradients_of(own, 0), torch.ones(()))
    assert all(torch.equal(one, two) for one, two in zip(before, own, strict=True))
    assert not hasattr(optimizer, "found_inf")
    _step_as_written(optimizer, gradients_of(own, 0), torch.zeros(()))
    assert not torch.equal(before[2], own[2])
    assert optimizer.state[own[2]]["step"] == 1
