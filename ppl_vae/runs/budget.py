"""A bound on what the construction of a pair may take: a small file must not ask for gigabytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

OPERATION = 32 * 2**10
"""What an operation counts beside its tensors, so that a loop without end is bounded too."""


@contextmanager
def at_most(size: int, because: str) -> Iterator[None]:
    """Refuse tensors that are made in this context once they come to more than `size` bytes.

    What an operation would give is found on torch's meta device, which has shapes and no memory, before
    the operation is run.

    Args:
        size: bytes, of all tensors together.
        because: what the message says of the bound.

    Raises:
        ValueError: by the operation that would exceed it.

    >>> with at_most(2**20, "it is an example"):
    ...     torch.nn.Linear(30000, 30000)
    Traceback (most recent call last):
    ...
    ValueError: it would take more than 1,048,576 bytes, and it is an example
    """
    with _Budget(size, because):
        yield


class _Budget(TorchDispatchMode):
    def __init__(self, size: int, because: str) -> None:
        super().__init__()
        self.size, self.because, self.left = size, because, size

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch would import its compiler, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        self.left -= OPERATION + (0 if _gives_its_own(func) else _bytes(_on_meta(func, args, given)))
        if self.left < 0:
            raise ValueError(f"it would take more than {self.size:,} bytes, and {self.because}")
        return func(*args, **given)


def _gives_its_own(func: Any) -> bool:
    """Whether the results are what was given, changed or seen otherwise, and take no memory."""
    returns = func._schema.returns
    return bool(returns) and all(each.alias_info is not None for each in returns)


def _on_meta(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def bare(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        return value

    meant = {name: value for name, value in kwargs.items() if name != "generator"}
    if any(each.name == "device" for each in func._schema.arguments):
        meant["device"] = torch.device("meta")
    try:
        return func(*tree_map(bare, args), **tree_map(bare, meant))
    except Exception:  # what the meta device does not have, such as a number read from a tensor
        return None


def _bytes(results: Any) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in tree_leaves(results)
        if isinstance(tensor, Tensor)
    )
