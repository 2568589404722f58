"""Nets in half precision, log-probabilities in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def mixed_precision(*programs: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Run the nets of some programs under autocast, and everything else as it is written.

    The rule: while the context is open, a call from a program into any module beneath it, directly or at
    any depth (`self.encoder(x)`, `self.encoder.trunk(x)`, `self.heads[0](h)`), runs under `torch.autocast`,
    with all the calls that it makes itself. When it returns to the program, half-precision Tensors in the
    result, alone or in tuples and lists, are cast to float32; anything else, such as a distribution, is
    left alone. What a program computes itself, the `log_prob` of its sites above all, is never under
    autocast.

    The weights stay in float32. Half-precision float16 needs a gradient scaler in training; bfloat16
    does not. A program that is itself a part of another one counts as a program. Not re-entrant from
    several threads.

    Args:
        programs: the model, the guide: the modules whose submodules are the nets.
        dtype: `torch.bfloat16` or `torch.float16`; None does nothing.

    Raises:
        ValueError: for another dtype.

    >>> program = nn.ModuleDict({"net": nn.Linear(2, 2)})
    >>> with mixed_precision(program, dtype=torch.bfloat16):
    ...     program["net"](torch.zeros(2)).dtype
    torch.float32
    """
    if dtype is None:
        yield
        return
    if dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"dtype must be torch.bfloat16, torch.float16 or None, got {dtype}")

    nets = _beneath(programs)
    device_type = next((p.device.type for program in programs for p in program.parameters()), "cpu")
    # The nets being run now, the outermost first; only that one opens and closes autocast.
    running: list[nn.Module] = []
    autocast: list[torch.autocast] = []
    is_open = True

    def before(net: nn.Module, args: tuple[Any, ...]) -> None:
        if not is_open:
            return
        if not running:
            autocast.append(torch.autocast(device_type, dtype=dtype))
            autocast[-1].__enter__()
        running.append(net)

    def after(net: nn.Module, args: tuple[Any, ...], result: Any) -> Any:
        # Another hook may have raised before ours was reached: then this net was never entered.
        if not running or running[-1] is not net:
            return result
        running.pop()
        if running:
            return result
        autocast.pop().__exit__(None, None, None)
        return _widen(result, dtype)

    handles = []
    try:
        for net in nets:
            handles.append(net.register_forward_pre_hook(before))
            handles.append(net.register_forward_hook(after, always_call=True))
        yield
    finally:
        # A copy of a net made meanwhile keeps its hooks: they must be idle from now on.
        is_open = False
        for handle in handles:
            handle.remove()
        # torch runs no hook after a KeyboardInterrupt within a net, which leaves autocast open.
        running.clear()
        while autocast:
            autocast.pop().__exit__(None, None, None)


def _beneath(programs: tuple[nn.Module, ...]) -> list[nn.Module]:
    """Every module beneath the programs, once even when two programs share it."""
    nets = dict.fromkeys(net for program in programs for net in program.modules())
    return [net for net in nets if net not in programs]


def _widen(result: Any, dtype: torch.dtype) -> Any:
    if isinstance(result, Tensor):
        return result.float() if result.dtype == dtype else result
    if isinstance(result, tuple) and hasattr(result, "_make"):
        return result._make(_widen(part, dtype) for part in result)
    if isinstance(result, tuple | list):
        return type(result)(_widen(part, dtype) for part in result)
    return result
