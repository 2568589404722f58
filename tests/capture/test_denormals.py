"""Numbers too small to be normal count as zero in every thread, and afterwards as before."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.capture import denormals
from ppl_vae.capture.rewrites import native
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
        inside = denormals.without_denormals_anywhere(lambda x: [x * 0.1])(small)[0]
        assert bool((inside == 0).all())
        assert bool((small * 0.1 > 0).all())
        with pytest.raises(ZeroDivisionError):
            denormals.without_denormals_anywhere(lambda x: 1 / 0)(small)
        assert bool((small * 0.1 > 0).all())
    finally:
        torch.set_num_threads(before)


def test_without_the_library_the_function_is_what_it_was(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    assert denormals.without_denormals_anywhere(len) is len
