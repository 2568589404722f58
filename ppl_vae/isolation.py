"""Leaving things as they were: random numbers of one's own, and modules in eval mode for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def random_numbers(seed: int | None, device: torch.device) -> Iterator[None]:
    """Random numbers from `seed`, on the CPU and on `device`; the caller's are as before afterwards.

    With `seed=None` the caller's random numbers are used, and used up.
    """
    if seed is None:
        yield
        return
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else [], device_type="cuda"):
        # torch.manual_seed would also seed accelerators whose state is not restored here
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def without_nvml() -> Iterator[None]:
    """torch does not ask NVML whether there is a GPU, as Lightning has it do at every optimizer step."""
    asked = os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = asked


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """All submodules in eval mode; each gets its own mode back, also after an exception."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def questioning(module: nn.Module, seed: int | None, device: torch.device) -> Iterator[None]:
    """What every evaluation and every query runs under: eval mode, no gradients, its own randomness."""
    with eval_mode(module), torch.no_grad(), random_numbers(seed, device):
        yield
