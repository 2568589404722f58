"""What stands beside the code: arguments that no site observes, and where values are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compression.alphabet import as_bits
from ppl_vae.compression.bits_back import Gaps
from ppl_vae.compression.plan import Plan
from ppl_vae.core.sites import PairError

Shapes = Sequence[tuple[tuple[int, ...], torch.dtype]]


def beside(plan: Plan, tensors: Sequence[Tensor]) -> dict[str, bytes]:
    """The bytes of all data's arguments that no site observes, and of the gaps, by name."""
    coded = {site.argument for site in plan.data}
    found = {
        f"argument {number}": each.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for number, each in enumerate(tensors)
        if number not in coded
    }
    for site in plan.data:
        x = tensors[site.argument]
        if x.is_floating_point() and bool(x.isnan().any()):
            missing = as_bits(x[x.isnan()])
            if bool((missing != as_bits(x.new_full((1,), torch.nan))).any()):
                raise PairError(
                    f"site {site.name!r}: the data have NaN of several kinds, which would not come back bit "
                    "for bit: write x[x.isnan()] = torch.nan"
                )
            found[f"gaps {site.name}"] = np.packbits(x.isnan().numpy(), axis=None).tobytes()
    return found


def gaps_of(plan: Plan, side: Mapping[str, bytes], num_data: int) -> Gaps:
    """(N, elements) by site, True where its value is missing; none of sites that are complete."""
    found: Gaps = {}
    for site in plan.data:
        if raw := side.get(f"gaps {site.name}"):
            bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[: num_data * site.num_elements]
            found[site.name] = bits.reshape(num_data, site.num_elements).astype(bool)
    return found


def frame_of(plan: Plan, side: Mapping[str, bytes], num_data: int, shapes: Shapes) -> tuple[Tensor, ...]:
    """All data as a decoder knows them at first: zeros for what the sites observe."""
    found = []
    for number, (shape, dtype) in enumerate(shapes):
        raw = side.get(f"argument {number}")
        if raw is None:
            found.append(torch.zeros((), dtype=dtype).expand(num_data, *shape))
        else:
            bytes_of = torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).copy())
            found.append(bytes_of.view(dtype).reshape(num_data, *shape))
    return tuple(found)


def shapes_of(tensors: Sequence[Tensor]) -> Shapes:
    """The shape of a datum and the type of each argument."""
    return [(tuple(each.shape[1:]), each.dtype) for each in tensors]


def rows_of(tensors: Sequence[Tensor], rows: slice) -> tuple[Tensor, ...]:
    """Some rows of all arguments."""
    return tuple(each[rows] for each in tensors)


def gaps_in(gaps: Gaps, rows: slice) -> Gaps:
    """The gaps of some rows."""
    return {name: each[rows] for name, each in gaps.items()}
