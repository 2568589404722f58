"""What one gradient costs, as a step of training computes it: seconds, and bytes at the peak."""

from __future__ import annotations

import statistics
import time
import weakref
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from ppl_vae.core.isolation import eval_mode, one_thread, random_numbers, validation
from ppl_vae.core.pair import Pair
from ppl_vae.train.objective import Objective


@one_thread
def cost(pair: Pair, estimator: PyroELBO, batch: tuple[Tensor, ...], repeats: int = 5) -> tuple[float, int]:
    """The median seconds of a gradient, and the bytes that it needs beside parameters and data.

    The bytes are those of all tensors alive at the worst moment of the forward and backward pass, the
    gradient's own among them. What a kernel needs within itself is not seen.
    """
    objective = Objective(pair, estimator)
    parameters = [p for p in pair.parameters() if p.requires_grad]
    kept = [p.grad for p in parameters]

    def gradient() -> None:
        for parameter in parameters:
            parameter.grad = None
        loss = objective(*batch)[0]
        if loss.requires_grad:
            loss.backward()

    try:
        with eval_mode(pair), validation(False), random_numbers(0, pair.device):
            gradient()  # what happens only the first time
            seconds = [_timed(gradient, pair.device) for _ in range(repeats)]
            with AliveBytes() as alive:
                gradient()
    finally:
        for parameter, grad in zip(parameters, kept, strict=True):
            parameter.grad = grad
    return statistics.median(seconds), alive.peak


def _timed(action: Any, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


class AliveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations under it make, as they come and go.

    Attributes:
        peak: the largest number alive at once.

    >>> with AliveBytes() as alive:
    ...     total = (torch.ones(1000) + 1).sum()
    >>> alive.peak
    8000
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in tree_flatten((args, kwargs))[0]:
            if isinstance(tensor, Tensor):
                self._known.add(tensor.untyped_storage()._cdata)  # there before: not ours to count
        result = func(*args, **kwargs)
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
