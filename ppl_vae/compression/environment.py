"""Where bits decode: the machine, the versions and the weights that make the same floats."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compression.bits_back import BitsBack
from ppl_vae.core.pair import Pair
from ppl_vae.runs.seals import digest_of_tensors

_WAYS = {
    "threads": "set torch.set_num_threads({there}), and decode it so",
    "torch": "decode it with torch {there}",
    "pyro": "decode it with Pyro {there}",
    "constriction": "decode it with constriction {there}",
}


def environment() -> dict[str, Any]:
    """What a file says of where it was written."""
    return {
        "torch": torch.__version__,
        "pyro": version("pyro-ppl"),
        "constriction": version("constriction"),
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "platform": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def difference(there: dict[str, Any]) -> str | None:
    """How the place where a file was written differs from this one, and what to do; None if it does not."""
    here = environment()
    found = [name for name in here if here[name] != there.get(name)]
    if not found:
        return None
    told = " and ".join(f"{name} {there.get(name)!r} there, {here[name]!r} here" for name in found)
    way = _WAYS.get(found[0], "decode it on the machine where it was written")
    return f"{told}; its bits come back only from the same floats: {way.format(there=there.get(found[0]))}"


def digest_of_pair(pair: Pair) -> str:
    """SHA-256 of a pair's parameters and buffers."""
    state = pair.state_dict()
    return digest_of_tensors({name: each for name, each in state.items() if isinstance(each, Tensor)})


def digest_of_floats(code: BitsBack, batch: Sequence[Tensor]) -> str:
    """SHA-256 of the probabilities that both programs give on made-up data: another machine's differ.

    Args:
        code: the two programs and what they code.
        batch: rows with the shapes of the data: what the sites observe is made up.
    """
    digest, generator = hashlib.sha256(), np.random.default_rng(0)
    batch, books = list(batch), code.books

    def drawn(shape: Sequence[int], size: int) -> np.ndarray:
        return generator.integers(0, size, tuple(shape), dtype=np.int32)

    def visit(name: str, fn: Any, value: Tensor | None) -> Tensor:
        if value is None:
            symbols, table = books.choose(name, fn, lambda part, _: drawn(part.shape[:2], part.shape[2]))
            digest.update(table.tobytes())
            return books.value(name, symbols)
        site, tables = books.data[name], books.data[name].tables(fn)
        for table in tables:
            digest.update(table.tobytes())
        made_up = [drawn(table.shape[:2], table.shape[2]) for table in tables]
        made = site.values(fn, made_up, batch[site.argument])
        batch[site.argument] = site.layout.rows_first(made).reshape(batch[site.argument].shape)
        return made.to(value.dtype)

    code.programs.run("model", tuple(batch), visit, 0)
    code.programs.run("guide", tuple(batch), visit, 0)
    return digest.hexdigest()


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
