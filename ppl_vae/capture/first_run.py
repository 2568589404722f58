"""The run of a program before it is recorded, which is thrown away."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from ppl_vae.capture.capture_error import CaptureError, as_refusals
from ppl_vae.capture.recorder import record
from ppl_vae.capture.surroundings import no_random_numbers_outside
from ppl_vae.capture.watched import Run, Watched
from ppl_vae.core.isolation import random_numbers


def run_first(
    run: Run, inputs: Sequence[Tensor], device: torch.device, watched: Watched, *, again: bool = False
) -> Watched:
    """One run before all others, for what programs find out at their first; what was watched then.

    A program's own error stays what it is. One that has run `again` and again before finds out nothing:
    but for memory of their own, its attributes are as before.
    """
    own: Exception | None = None
    with as_refusals(), no_random_numbers_outside(), watched.kept() if again else nullcontext():
        try:
            record(functools.partial(watched.take_over, run), inputs, device, 0, watched.tensors, first=True)
        except CaptureError as error:
            if not isinstance(error.__cause__, CaptureError):
                own = _error_of(run, device)
            if own is None:
                raise
    if own is not None:
        raise own
    watched.give()
    return watched


def _error_of(run: Run, device: torch.device) -> Exception | None:
    try:
        with random_numbers(0, device):
            run()
    except Exception as error:
        return error
    return None
