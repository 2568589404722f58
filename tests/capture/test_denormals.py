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
        with denormals.without_denormals(everywhere=True):
            inside = small * 0.1
        assert bool((inside == 0).all())
        assert bool((small * 0.1 > 0).all())
        with pytest.raises(ZeroDivisionError), denormals.without_denormals(everywhere=True):
            1 / 0  # noqa: B018
        assert bool((small * 0.1 > 0).all())
    finally:
        torch.set_num_threads(before)
