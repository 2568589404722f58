"""A GPU that is pretended: tensors in the machine's own memory that say they are on `cuda:0` and will not
meet others.

No GPU is needed, and every number is the CPU's, so that what a program computes "on the GPU" can be held
against what it computes on the CPU to the last bit. What fails is a tensor made on the wrong device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")

ANY_DEVICES = {
    "__set__", "_has_compatible_shallow_copy_type", "as_tensor", "broadcast_tensors", "copy_", "set_",
    "tensor",
}  # fmt: skip
"""What takes tensors of several devices."""

NO_SCALARS = {
    "addmm", "baddbmm", "bmm", "cat", "concat", "einsum", "hstack", "linear", "matmul", "mm", "stack",
    "vstack",
}  # fmt: skip
"""What takes no tensor of the CPU beside those of a GPU, not even one without dims."""


class OtherDevice(RuntimeError):
    """Tensors of two devices met, which on a real GPU fails too."""


class PretendedCuda(TorchFunctionMode):
    """While it is entered, `device="cuda"` and `.to("cuda")` give tensors that are pretended to be on a GPU::

        with PretendedCuda():
            pair.to("cuda")
            pv.encode(pair, x.to("cuda"))

    A tensor is where its memory is. The memory is kept for as long as this object, so that views, parameters
    and saved tensors need no mark of their own and an address is never another's. Backward passes and what
    torch does within one of its functions run unwatched.

    Raises:
        OtherDevice: where tensors of both devices meet in a function that takes those of one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._there: dict[int, torch.UntypedStorage] = {}

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is pretended to be on the GPU."""
        return _storage(tensor)._cdata in self._there

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "__get__" and func.__self__ in GETTERS:
            return GETTERS[func.__self__](self.holds(args[0]))
        if name in ("to", "cpu", "cuda"):
            return self._moved(name, args[0], args[1:], kwargs)
        if name == "pin_memory":
            return args[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [self.holds(tensor) for tensor in tensors]
        if any(there) and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu() first")
        if any(there) and not all(there):
            self._meet(name, args, [tensor for tensor, held in zip(tensors, there) if not held])
        goes = any(there)
        if kwargs.get("device") is not None:
            goes, kwargs["device"] = _is_cuda(kwargs["device"]), CPU
        result = func(*args, **kwargs)
        if goes:
            known = {_storage(tensor)._cdata for tensor in tensors}
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor) and _storage(leaf)._cdata not in known:
                    self.take(leaf)
        return result

    def take(self, *tensors: Tensor) -> None:
        """Pretend that tensors are there, as they are and without a copy."""
        for tensor in tensors:
            storage = _storage(tensor)
            self._there[storage._cdata] = storage

    def _moved(self, name: str, tensor: Tensor, given: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The result of `to`, `cpu` or `cuda`: a copy where the device is another."""
        there = self.holds(tensor)
        goes, result = there if name == "to" else name == "cuda", tensor
        for option in (*given, *kwargs.values()) if name == "to" else ():
            if isinstance(option, Tensor):
                goes, result = self.holds(option), result.to(option.dtype)
            elif isinstance(option, torch.dtype):
                result = result.to(option)
            elif isinstance(option, torch.memory_format):
                result = result.to(memory_format=option)
            elif isinstance(option, str | torch.device):
                goes = _is_cuda(option)
        flags = [option for option in given if isinstance(option, bool)]  # non_blocking, copy
        copies = kwargs.get("copy", flags[1:] == [True])
        if (goes != there or copies) and _storage(result)._cdata == _storage(tensor)._cdata:
            result = result.clone()
        if goes:
            self.take(result)
        return result

    def _meet(self, name: str, args: Any, beside: list[Tensor]) -> None:
        """Raise as CUDA does where these tensors of the CPU stand beside some of the GPU."""
        if name in ANY_DEVICES:
            return
        if name in ("__getitem__", "__setitem__"):
            indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)]
            if self.holds(args[0]) and not (name == "__setitem__" and indices):
                return  # an index may be on the CPU; what is set by a slice is copied
            if not any(map(self.holds, indices)) and not indices:
                return
        elif name not in NO_SCALARS and all(_plain(tensor).dim() == 0 for tensor in beside):
            return
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in beside)
        raise OtherDevice(
            f"Expected all tensors to be on the same device, but {name} takes tensors of cuda:0 and of the "
            f"cpu, of shape {shapes}"
        )

    def __enter__(self) -> PretendedCuda:
        self._calls = contextlib.ExitStack()
        self._calls.enter_context(_calls_of_cuda())
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._calls.close()


GETTERS = {
    Tensor.device: lambda there: CUDA if there else CPU,
    Tensor.is_cuda: lambda there: there,
    Tensor.is_cpu: lambda there: not there,
}


def _is_cuda(device: Any) -> bool:
    return isinstance(device, int) or torch.device(device).type == "cuda"


def _plain(tensor: Tensor) -> Tensor:
    """What `torch.func` has wrapped."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return _plain(tensor).untyped_storage()


@contextlib.contextmanager
def _calls_of_cuda() -> Iterator[None]:
    """What programs and torch itself ask of `torch.cuda`; its random numbers are the CPU's."""
    calls: dict[str, Any] = {
        "current_device": lambda: 0,
        "device": lambda device: contextlib.nullcontext(),
        "device_count": lambda: 1,
        "get_device_capability": lambda device=None: (9, 0),
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_: False,
        "is_current_stream_capturing": lambda: False,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "mem_get_info": lambda device=None: (2**30, 2**30),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "synchronize": lambda device=None: None,
    }
    stream = SimpleNamespace(is_capturing=lambda: False)
    with (
        mock.patch.multiple(torch.cuda, **calls),
        mock.patch.object(torch.accelerator, "current_stream", return_value=stream),
        mock.patch.object(torch.backends.cudnn, "is_acceptable", return_value=False),
    ):
        yield
