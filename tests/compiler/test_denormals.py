"""Numbers too small to be normal count as zero in every thread, and afterwards as before."""

from __future__ import annotations

import os
import signal
import time
import warnings

import pytest
import torch

from ppl_vae.compiler import denormals, native
from tests.capture.helpers import needs_compiler

SIZE = 1_000_000  # so large that every thread has a part


@needs_compiler
@pytest.mark.slow
def test_denormals_are_zero_in_every_thread():
    if native.library() is None:
        pytest.skip("torch has no OpenMP here, or the processor is unknown")
    small = torch.full((SIZE,), 2e-38)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert bool((small * 0.1 > 0).all())
        with denormals.without_denormals(everywhere=True):
            inside = small * 0.1
        assert bool((inside == 0).all())
        assert bool((small * 0.1 > 0).all())
        with pytest.raises(ZeroDivisionError), denormals.without_denormals(everywhere=True):
            1 / 0  # noqa: B018
        assert bool((small * 0.1 > 0).all())
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def threads():
    if native.library() is None:
        pytest.skip("torch has no OpenMP here, or the processor is unknown")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def flushing():
    small = torch.full((SIZE,), 2e-38) * 0.1 == 0
    return small.all().item() if small.all() == small.any() else "in a part"


@needs_compiler
@pytest.mark.usefixtures("threads")
def test_one_inside_another_changes_nothing_for_it_or_afterwards():
    """As where a hook of a captured step runs a captured evaluation."""
    with denormals.without_denormals(everywhere=True):
        with denormals.without_denormals(everywhere=True):
            assert flushing() is True
        assert flushing() is True
    assert flushing() is False


@needs_compiler
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("again", [False, True])
def test_threads_that_join_meanwhile_are_as_the_others_afterwards(again):
    torch.set_num_threads(1)
    with denormals.without_denormals(everywhere=True):
        torch.set_num_threads(3)
        flushing()  # those that were there may not be
        if again:
            with denormals.without_denormals(everywhere=True):
                assert flushing() is True
    assert flushing() is False
    assert (torch.full((SIZE,), 1.0) / 3).sum().isfinite()


@needs_compiler
@pytest.mark.usefixtures("threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_loops_of_ours_end_in_a_forked_process():
    """Where those threads are gone that OpenMP had started, and torch's own loops wait for them in vain."""
    a, key = torch.randn(100, 300), torch.zeros(2, dtype=torch.int32)

    def loops():
        with denormals.without_denormals(everywhere=True):
            product, sums = torch.ops.ppl_vae.product(a, a.t()), torch.ops.ppl_vae.column_sums(a)
            return [product, sums, native.threefry(key, 0, 10_000)]

    expected = loops()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a fork may hang
        child = os.fork()
    if child == 0:
        same = all(torch.equal(one, two) for one, two in zip(loops(), expected, strict=True))
        os._exit(0 if same else 1)
    end = time.monotonic() + 20
    while not (found := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.01)
    if not found[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert found == (child, 0), "it hangs, or is wrong"
