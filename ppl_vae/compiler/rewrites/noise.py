"""Random numbers that a CPU draws as vectors on all its threads: a block cipher of each number's position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.compiler import native

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

    def _words(self, count: int) -> Tensor:
        """(2, count) words of a stream of their own."""
        if self._key is None:
            self._key = torch.randint(-(2**31), 2**31, (2,), dtype=torch.int32, device=self.device)
        self._streams += 1
        words: Tensor = native.threefry(self._key, self._streams, count)
        return words

    def _pairs(self, shape: Sequence[int]) -> Iterator[Tensor]:
        return (each.view(list(shape)) for each in self._words(math.prod(shape)).unbind())

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Uniform on [0, 1), with as many random bits as the type holds."""
        if dtype == torch.float32:
            count = math.prod(shape)
            words = self._words((count + 1) // 2).view(-1)[:count]
            return _bits(words.view(list(shape)), 24).to(dtype) * 2.0**-24
        first, second = self._pairs(shape)
        return _bits(first, 26).to(dtype) * 2.0**-26 + _bits(second, 27).to(dtype) * 2.0**-53

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Standard normal, by Box and Muller's formula; in float32 up to 6.8 standard deviations."""
        if dtype == torch.float32:
            first, second = self._pairs(shape)
            # small numbers keep all 32 bits, and 0 does not occur
            radial = _bits(first, 24).to(dtype) * 2.0**-24 + ((first & 255).to(dtype) + 0.5) * 2.0**-32
            angle = _bits(second, 24).to(dtype) * 2.0**-24
        else:
            radial, angle = 1 - self.uniform(shape, dtype), self.uniform(shape, dtype)
        return torch.sqrt(-2 * torch.log(radial)) * torch.cos(2 * math.pi * angle)

    def operators(self) -> dict[Any, Callable[..., Any]]:
        """What `make_fx` puts in place of torch's random operators; others keep torch's generators."""
        uniform, normal = self.uniform, self.normal
        return {
            aten.rand.default: self._drawn(uniform, lambda u, _: u),
            aten.randn.default: self._drawn(normal, lambda n, _: n),
            aten.rand_like.default: self._drawn(uniform, lambda u, _: u),
            aten.randn_like.default: self._drawn(normal, lambda n, _: n),
            aten.uniform_.default: self._drawn(
                uniform, lambda u, x, low=0.0, high=1.0: x.copy_(u * (high - low) + low)
            ),
            aten.normal_.default: self._drawn(
                normal, lambda n, x, mean=0.0, std=1.0: x.copy_(n * std + mean)
            ),
            aten.bernoulli_.float: self._drawn(uniform, lambda u, x, p=0.5: x.copy_(u < p), torch.float32),
            aten.bernoulli.default: self._drawn(uniform, lambda u, p: (u < p).to(p.dtype)),
        }

    def _drawn(
        self, draw: Callable[..., Tensor], make: Callable[..., Tensor], fixed: torch.dtype | None = None
    ) -> Callable[..., Any]:
        """An operator that makes something of random numbers of its first argument's shape and type, or of a
        `fixed` type; not of those of a generator of one's own.
        """

        def run(x: Any, *options: Any, generator: Any = None, dtype: Any = None, **kind: Any) -> Any:
            like = x if isinstance(x, Tensor) else None
            shape = x if like is None else like.shape
            dtype = fixed or dtype or (torch.get_default_dtype() if like is None else like.dtype)
            device = kind.get("device") or (self.device if like is None else like.device)
            known = generator is None and torch.device(device).type == self.device.type
            if not known or dtype not in (torch.float32, torch.float64) or math.prod(shape) > _LARGEST:
                return NotImplemented
            return make(draw(shape, dtype), x, *options)

        return run


def torchs(same: bool) -> dict[Any, Callable[..., Any]]:
    """torch's own draws: of integers, by an operator whose name a graph can write; and where they are to be
    the `same`, of bits, which Inductor makes of float32 numbers.
    """

    def bernoulli(p: Tensor, *, generator: Any = None) -> Any:
        dense = torch.contiguous_format  # in which torch draws them, whatever p's order
        return NotImplemented if generator else torch.empty_like(p, memory_format=dense).bernoulli_(p)

    def between(x: Tensor, low: int, high: int | None, *, generator: Any = None) -> Any:
        if generator is not None or high is None:
            return NotImplemented
        return x.copy_(torch.randint(low, high, x.shape, device=x.device))

    table = {getattr(aten.random_, "from"): between}
    return table | {aten.bernoulli.default: bernoulli} if same else table


def _bits(word: Tensor, count: int) -> Tensor:
    """The upper bits of a word, as a number from 0."""
    return (word >> (32 - count)) & ((1 << count) - 1)
