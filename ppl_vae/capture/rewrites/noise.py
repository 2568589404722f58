"""Random numbers that a CPU draws as vectors on all its threads: a block cipher of each number's position."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.rewrites import native

aten = torch.ops.aten

_LARGEST = 2**31 - 1


class Noise:
    """Stands in for torch's generators while a step is traced.

    The key is 64 bits of torch's own generator, fresh at each run of the step, so that its seed and its
    saved state decide all the noise; every call of `uniform` and `normal` has a stream of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._key: Tensor | None = None
        self._streams = 0

    def _words(self, shape: Sequence[int], both: bool) -> list[Tensor]:
        if self._key is None:
            self._key = torch.randint(-(2**31), 2**31, (2,), dtype=torch.int32, device=self.device)
        self._streams += 1
        words = native.words(self._key, self._streams, math.prod(shape), both)
        return [word.view(list(shape)) for word in words.unbind()]

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Uniform on [0, 1), with as many random bits as the type holds."""
        first, *more = self._words(shape, both=dtype != torch.float32)
        if dtype == torch.float32:
            return _bits(first, 24).to(dtype) * 2.0**-24
        (second,) = more
        return _bits(first, 26).to(dtype) * 2.0**-26 + _bits(second, 27).to(dtype) * 2.0**-53

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Standard normal, by Box and Muller's formula; in float32 up to 6.8 standard deviations."""
        if dtype == torch.float32:
            first, second = self._words(shape, both=True)
            # small numbers keep all 32 bits, and 0 does not occur
            radial = _bits(first, 24).to(dtype) * 2.0**-24 + ((first & 255).to(dtype) + 0.5) * 2.0**-32
            angle = _bits(second, 24).to(dtype) * 2.0**-24
        else:
            radial, angle = 1 - self.uniform(shape, dtype), self.uniform(shape, dtype)
        return torch.sqrt(-2 * torch.log(radial)) * torch.cos(2 * math.pi * angle)

    def operators(self) -> dict[Any, Callable[..., Any]]:
        """What `make_fx` puts in place of torch's random operators; others keep torch's generators."""
        return {
            aten.rand.default: self._new(self.uniform),
            aten.randn.default: self._new(self.normal),
            aten.rand_like.default: self._like(self.uniform),
            aten.randn_like.default: self._like(self.normal),
            aten.uniform_.default: self._uniform_,
            aten.normal_.default: self._normal_,
            aten.bernoulli_.float: self._bernoulli_,
            aten.bernoulli.default: self._bernoulli,
        }

    def _new(self, draw: Callable[..., Tensor]) -> Callable[..., Any]:
        def new(size: Sequence[int], *, dtype: torch.dtype | None = None, **options: Any) -> Any:
            dtype = dtype or torch.get_default_dtype()
            return draw(size, dtype) if self._can(size, dtype, options.get("device")) else NotImplemented

        return new

    def _like(self, draw: Callable[..., Tensor]) -> Callable[..., Any]:
        def like(x: Tensor, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
            dtype, device = dtype or x.dtype, options.get("device") or x.device
            return draw(x.shape, dtype) if self._can(x.shape, dtype, device) else NotImplemented

        return like

    def _uniform_(self, x: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Any = None) -> Any:
        if generator is not None or not self._can(x.shape, x.dtype, x.device):
            return NotImplemented
        return x.copy_(self.uniform(x.shape, x.dtype) * (high - low) + low)

    def _normal_(self, x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Any:
        if generator is not None or not self._can(x.shape, x.dtype, x.device):
            return NotImplemented
        return x.copy_(self.normal(x.shape, x.dtype) * std + mean)

    def _bernoulli_(self, x: Tensor, p: float = 0.5, *, generator: Any = None) -> Any:
        if generator is not None or not self._can(x.shape, torch.float32, x.device):
            return NotImplemented
        return x.copy_(self.uniform(x.shape, torch.float32) < p)

    def _bernoulli(self, p: Tensor, *, generator: Any = None) -> Any:
        if generator is not None or not self._can(p.shape, p.dtype, p.device):
            return NotImplemented
        return (self.uniform(p.shape, p.dtype) < p).to(p.dtype)

    def _can(self, shape: Sequence[int], dtype: torch.dtype, device: Any) -> bool:
        known = device is None or torch.device(device).type == self.device.type
        return known and dtype in (torch.float32, torch.float64) and math.prod(shape) <= _LARGEST


def _bits(word: Tensor, count: int) -> Tensor:
    """The upper bits of a word, as a number from 0."""
    return (word >> (32 - count)) & ((1 << count) - 1)
