"""Signatures: a graph's name before it is traced, of what was recorded and all else that decides about it."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.looks import look_of
from ppl_vae.capture.recorder import record
from ppl_vae.capture.recording import Recording, Ref
from ppl_vae.compiler import known
from ppl_vae.compiler.known import Signature
from ppl_vae.compiler.rewrites import Setting

_NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format)
_PLAIN = (type(None), bool, int, float, complex, str, *_NAMED)


def sign(
    recording: Recording,
    behind: Callable[[list[Tensor]], list[Tensor]],
    inputs: Sequence[Tensor],
    more: Sequence[Tensor],
    setting: Setting,
) -> Signature | None:
    """The signature of a recording and what comes behind it; None for what is not kept.

    Args:
        recording: what runs first.
        behind: of the recording's results.
        inputs: of the graph: the recording's constants and externals, `more`, and the recording's inputs.
        more: those that `behind` may change.
        setting: what the graph is made for.
    """
    from torch._inductor import config

    kept = setting.compiles_for_cpu and setting.matmul_precision == "float32"
    if not kept or not config.fx_graph_cache or getattr(config, "force_disable_caches", False):
        return None
    try:
        results = [torch.empty_strided(*look[:2], dtype=look[2], device=look[3]) for look in recording.looks]
        after = record(lambda: behind(results), [*results, *more], setting.device, seed=0)
        shared = len({each.untyped_storage()._cdata for each in inputs}) < len(inputs)
        if after.externals or shared or any(map(is_traceable_wrapper_subclass, inputs)):
            return None
        looks = [(*look_of(each), each.is_conj(), each.is_neg()) for each in inputs]
        said = _said((_here(), config.get_hash().hex(), _modes(), tuple(setting), looks, recording, after))
    except (CaptureError, TypeError, RuntimeError):
        return None
    before = (*recording.constants, *recording.externals)
    outside, places = len(before), {number: place for place, number in enumerate(before)}
    places |= {number: outside + len(more) + number for number in range(recording.inputs)}
    later = [outside + number - len(results) for number in after.changed if number >= len(results)]
    changed = sorted([*[places[number] for number in recording.changed], *later])
    return Signature(hashlib.sha256(said.encode()).hexdigest(), len(after.outputs), tuple(changed))


def _said(value: Any) -> str:
    """A value as text that is the same in every process; TypeError for one that has none."""
    if isinstance(value, Ref):
        return f"%{value.number}"
    if isinstance(value, Recording):
        entries = [(_named(each.op), each.args, each.kwargs, each.results) for each in value.entries]
        numbers = [*value.externals], [*value.constants]
        lie = [*map(tuple, value.strides.items())], sorted(value.copied)
        return _said((value.inputs, entries, numbers, value.outputs, value.looks, lie))
    if isinstance(value, tuple | list):
        return f"({','.join(map(_said, value))})"
    if type(value) in _PLAIN:
        return repr(value)
    raise TypeError(f"no text for a {type(value).__name__}")


def _named(op: Any) -> str:
    if op.namespace not in ("aten", "prims"):  # another's may change under its name
        raise TypeError(f"no text for {op}")
    return str(op)


def _modes() -> tuple[Any, ...]:
    """What a graph has inside of torch's state."""
    modes = torch.are_deterministic_algorithms_enabled(), torch.is_inference_mode_enabled()
    return torch.get_num_threads(), torch.get_default_dtype(), *modes


@functools.cache
def _here() -> str:
    """torch, Python, the processor, and the code that makes graphs, which all of them have inside."""
    rooms = [Path(each).parent for each in (__file__, known.__file__)]
    ours = [file for room in rooms for file in sorted(room.rglob("*")) if file.suffix in (".py", ".cpp")]
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text().splitlines() if processor.exists() else []
    names = ("model name", "flags", "Features", "CPU part")
    about = [line for line in dict.fromkeys(lines) if line.startswith(names)]
    about += [torch.__version__, str(torch.version.git_version), platform.python_version()]
    about += [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    about += [hashlib.sha256(each.read_bytes()).hexdigest() for each in ours]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()
