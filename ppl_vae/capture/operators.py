"""What operators do that a recording has to know: what they change, and what a graph has no place for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.compiler.graph import hides_writes

aten = torch.ops.aten

_MASKED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
_READ_INSIDE = (aten._pack_padded_sequence.default,)
"""Operators that look at values and do not say so."""
LOOKS = "the program looks at the values of a tensor, and a captured step knows its shape alone"
SHAPES = "the shape of a result depends on the values of a tensor: where that is a mask, use torch.where"
_GENERATOR = (
    "the program draws from a torch.Generator of its own, and a captured step from torch's random numbers "
    "alone"
)
STORAGE = (
    "the program takes a tensor's memory itself (as copy.deepcopy, pickle and share_memory_() do), which a "
    "captured step does not see: use clone()"
)

MARKERS = (
    torch.ops.profiler._record_function_enter_new.default,
    torch.ops.profiler._record_function_exit._RecordFunction,
)
"""Operators that mark what runs for a profiler, and do nothing else."""
LIFTED = (aten.lift_fresh.default, aten.lift_fresh_copy.default)
SEEDED = (
    "the program seeds torch's random numbers or sets them back (as torch.utils.checkpoint does where it "
    "draws again), which a captured step would not do"
)
EXCHANGED = (
    "a program gives a tensor of shape {} that was there before other memory or another shape, by .data =, "
    ".set_() or the like of t_(), which a captured step does not see: use copy_(), or t() for t_()"
)
LISTED = "a tensor is made of a list with tensors in it, at whose values that looks: use torch.stack"
NESTED = "nested tensors have no fixed shape, which a captured step needs: give padded ones and a mask"
SPARSE = "a result, or gradient, of shape {} is sparse: make it dense, an Embedding with sparse=False"
LAZY = (
    "a tensor of shape {} that was there before is a conjugate, or negative, that is not computed yet, and "
    "no captured step has a place for that: keep its resolve_conj().resolve_neg()"
)


def written(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The arguments that an operator changes, its `out=` too."""
    if hides_writes(op):
        return [each for each in args[3:5] if isinstance(each, Tensor)]
    if not op._schema.is_mutable:
        return []
    changed = [
        args[place] if place < len(args) else kwargs.get(argument.name)
        for place, argument in enumerate(op._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    flat = [each for value in changed for each in (value if isinstance(value, list | tuple) else [value])]
    return [each for each in flat if isinstance(each, Tensor)]


def without_masks(
    op: Any, args: Sequence[Any], is_constant: Callable[[Tensor], bool], note: Callable[[Tensor], None]
) -> Sequence[Any]:
    """The arguments, in which masks that are constants, of whose values shapes come, are noted as indices."""
    if op not in _MASKED or not all(each.ndim and is_constant(each) for each in filter(is_mask, args[1])):
        return args
    indices: list[Tensor | None] = []
    for each in args[1]:
        numbers = each.nonzero().unbind(-1) if is_mask(each) else ()
        indices += numbers if is_mask(each) else [each]
        for one in numbers:
            note(one)
    return args[0], indices, *args[2:]


def is_mask(index: Any) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def reason_against(op: Any, args: Sequence[Any]) -> str:
    """Why a graph has no place for an operation; nothing where it has."""
    if torch.Tag.data_dependent_output in op.tags:
        return LOOKS
    if any(isinstance(each, torch.Generator) for each in args):
        return _GENERATOR
    if any(isinstance(each, torch.UntypedStorage | torch.TypedStorage) for each in args):
        return STORAGE
    if op is aten.index.Tensor:  # it says of itself that it might, and only with a mask it does
        return SHAPES if any(map(is_mask, args[1])) else ""
    return SHAPES if torch.Tag.dynamic_output_shape in op.tags or op in _READ_INSIDE else ""


def storage_of(tensor: Tensor) -> int | None:
    """What stands for a tensor's memory; None where it is not one piece."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else None


def place_of(tensor: Tensor) -> tuple[object, ...]:
    """Where in which memory a tensor lies."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape


def random_state(device: torch.device) -> Tensor:
    """Where torch's random numbers of a device stand."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
