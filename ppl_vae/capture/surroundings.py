"""What stands around a program while it is recorded: no looks at values, parameters put back."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_stack
from typing import Any, NoReturn
from unittest.mock import patch

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from ppl_vae.capture.capture_error import CaptureError, Line, line_of
from ppl_vae.capture.operators import LISTED, LOOKS, SHAPES
from ppl_vae.core.isolation import validation

_LOSSES = (str(Path(pyro.__file__).parent / "infer"), str(Path(__file__).parents[1] / "estimators"))
_DICE = str(Path(pyro.__file__).parent / "infer" / "util.py")
_READS: tuple[Any, ...] = (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__)
_READS += (Tensor.__format__, Tensor.data_ptr)
_FROM_PYTHON = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
_DLPACK = str(Path(torch.utils.dlpack.__file__))


class ValueWatch(TorchFunctionMode):
    """Refuses the looks at values that torch does not dispatch; the losses' own `item` stays a tensor.

    Args:
        is_constant: whether a tensor is made of Python's values alone, so that one may look.
        refuse: raises for a line and a reason.
    """

    def __init__(self, is_constant: Callable[..., bool], refuse: Callable[[Line, str], NoReturn]) -> None:
        super().__init__()
        self._is_constant, self._refuse = is_constant, refuse
        self._taken: Any = WeakIdKeyDictionary()  # what masks took, with what of, and the mask

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.item and sys._getframe(1).f_code.co_filename.startswith(_LOSSES):
            return args[0].detach()
        if func in (Tensor.__bool__, Tensor.masked_select) and sys._getframe(1).f_code.co_filename == _DICE:
            # what has no weight is left out of an expectation: as zeros, which are summed
            return func is not Tensor.__bool__ and args[0].where(args[1], 0)
        if func in _READS and not self._is_constant(args[0]) and not _followed(func):
            self._refuse(line_of(sys._getframe(1)), LOOKS)
        if func in _FROM_PYTHON and not all(map(self._is_constant, _listed(args, kwargs))):
            self._refuse(line_of(sys._getframe(1)), LISTED)
        if (found := self._by_mask(func, args, kwargs)) is not None:
            return found
        if func is torch.nn.functional.one_hot:
            return _one_hot(*args, **(kwargs or {}))
        if func is Tensor.__repr__:
            with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _by_mask(self, func: Any, args: Any, kwargs: Any) -> Tensor | None:
        """`out[mask] = x[mask]` by all of x: what a mask takes has a shape of its own, and no other use."""
        if not len(self._taken) and func is not Tensor.__getitem__:
            return None
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if taken := [each for each in given if each in self._taken]:
            source, mask = self._taken[taken[0]]
            put = func is Tensor.__setitem__ and len(taken) == 1 and args[2] is taken[0]
            if not put or not isinstance(args[1], Tensor) or not mask.shape == args[0].shape == args[1].shape:
                self._refuse(line_of(sys._getframe(2)), SHAPES)
            torch._assert_async((mask == args[1]).all(), "a mask takes other places than another puts")
            return args[0].copy_(source.where(mask, args[0]))
        mask = args[1] if func is Tensor.__getitem__ else None
        if not isinstance(mask, Tensor) or (mask.dtype, mask.shape) != (torch.bool, args[0].shape):
            return None
        if self._is_constant(mask):
            return None
        kept = args[0].clone(), mask.clone()
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            found = func(*args)
        self._taken[found] = kept
        return found


def _followed(func: Any) -> bool:
    """Whether torch itself takes a tensor's memory for another one, which is known by where it lies."""
    callers = {frame.f_code.co_filename for frame, _ in walk_stack(sys._getframe(2))}
    return func is Tensor.__dlpack__ and _DLPACK in callers


def _listed(args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors in a list that a tensor is made of."""
    data = (kwargs or {}).get("data", args[-1] if args else None)
    leaves = tree_leaves(data) if isinstance(data, list | tuple) else []
    return [each for each in leaves if isinstance(each, Tensor)]


@contextmanager
def same_store() -> Iterator[None]:
    """Pyro's parameter store is as before afterwards; CaptureError for a parameter that is new in it."""
    store = pyro.get_param_store()
    tables: list[dict[Any, Any]] = [store._params, store._param_to_name, store._constraints]
    before = [dict(table) for table in tables]
    new: list[str] = []
    try:
        yield
        new = [name for name in store._params if name not in before[0]]
    finally:
        for table, copy in zip(tables, before, strict=True):
            table.clear()
            table.update(copy)
    if new:
        raise CaptureError(f"parameter {new[0]!r} is not made in every run")


@contextmanager
def no_random_numbers_outside() -> Iterator[None]:
    """CaptureError for random numbers of Python's or NumPy's: in a graph they would stand still."""
    numpy_state = np.random.get_state()  # noqa: NPY002  the generator that programs draw from
    python_state = random.getstate()
    drawn = ""
    try:
        yield
        if random.getstate() != python_state:
            drawn = "Python's"
        elif pickle.dumps(np.random.get_state()) != pickle.dumps(numpy_state):  # noqa: NPY002
            drawn = "NumPy's"
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
    if drawn:
        raise CaptureError(
            f"a program draws from, or seeds, {drawn} random numbers, which a captured step would not do"
        )


@contextmanager
def at_recording() -> Iterator[None]:
    """Pyro and torch without looks at values: validation, of distributions made earlier too, and of NaN.

    Without torch's own search for NaN in gradients, and without oneDNN, whose recurrent layers hand to their
    gradient what they make below autograd alone.
    """
    with (
        validation(False),
        _without_onednn(),
        torch.autograd.set_detect_anomaly(False),
        patch.object(torch.distributions.Distribution, "_validate_sample", lambda *_: None),
        patch.object(pyro.util, "torch_isnan", lambda _: False),
    ):
        yield


@contextmanager
def _without_onednn() -> Iterator[None]:
    # not by torch.backends.mkldnn.flags, which warns of what it sets besides
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """torch's, which looks whether the classes are in range; with -1 it has to look.

    A graph looks where it reads by them: zeros, which are added.
    """
    if num_classes == -1 and input.dtype == torch.int64:
        num_classes = int(input.max()) + 1
    if num_classes < 1 or input.dtype != torch.int64:
        return torch.nn.functional.one_hot(input, num_classes)  # an error of its own
    read = input.unsqueeze(-1) + torch.embedding(input.new_zeros(num_classes, 1), input)
    return (read == torch.arange(num_classes, device=input.device)).long()
