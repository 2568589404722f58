"""What a pair computes, in a few numbers: by them one that only looks alike is told from the pair that was
trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_vae.core.isolation import questioning, validation
from ppl_vae.core.pair import Pair

_SEED = 0
_TOLERANCE, _HALF_TOLERANCE = (
    1e-3,
    5e-2,
)  # processors round differently, and half precision does so by percents


def log_densities(pair: Pair, example: Sequence[Tensor]) -> dict[str, float] | None:
    """The log-density of every site of both programs on some data, draws by a fixed seed, in eval mode.

    Buffers that the programs change are put back. None for programs that do not repeat themselves, or
    that do not run.
    """
    buffers = [(buffer, buffer.clone()) for buffer in pair.buffers()]
    try:
        first, second = (_log_densities(pair, example) for _ in range(2))
    except Exception:  # a pair that does not run is for `check_pair` to say
        return None
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return first if not unlike(first, second, 1e-6) else None


def unlike(old: Mapping[str, float], new: Mapping[str, float], tolerance: float = _TOLERANCE) -> list[str]:
    """The sites whose log-densities differ by more than rounding, with both values."""
    lines = []
    for name in {**old, **new}:
        if name not in old or name not in new:
            lines.append(f"{name} is only in {'the one of now' if name in new else 'the one of then'}")
        elif not (old[name] == new[name] or abs(old[name] - new[name]) <= tolerance * (1 + abs(old[name]))):
            lines.append(f"{name} has the log-density {new[name]:.6g}, and had {old[name]:.6g}")
    return lines


def signature(pair: Pair, example: Sequence[Tensor], dtype: torch.dtype | None) -> dict[str, Any] | None:
    """`log_densities` with what must be alike for them to be compared."""
    found = log_densities(pair, example)
    if found is None:
        return None
    return {
        "device": pair.device.type,
        "torch": str.__str__(torch.__version__),
        "nets": str(dtype),
        "sites": found,
    }


def changed(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """How a pair of now differs from the one of a signature; nothing where the two cannot be compared."""
    if not old or not new or any(old[name] != new[name] for name in ("device", "torch", "nets")):
        return []
    return unlike(old["sites"], new["sites"], _TOLERANCE if new["nets"] == "None" else _HALF_TOLERANCE)


def _log_densities(pair: Pair, example: Sequence[Tensor]) -> dict[str, float]:
    with questioning(pair, _SEED, pair.device), validation(False):
        guide = poutine.trace(pair.guide).get_trace(*example)
        model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*example)
        return {
            f"{role} {name}": float(site["fn"].log_prob(site["value"]).double().sum())
            for role, trace in (("guide's", guide), ("model's", model))
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
        }
