"""Values in words that mean the same in another process: functions by their import path,
objects by their parts.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import re
import sys
import types
import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Plain = None | bool | int | float | str | list[Any] | dict[str, Any]

LOCAL = "(local, "
_MAX_DEPTH = 6
_VOLATILE = ("max_plate_nesting", "training")  # what Pyro and torch change by themselves
_numbers = itertools.count(1)
_local: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def text_of(value: Any) -> str | int | float | bool | None:
    """A setting as one plain value.

    >>> import torch
    >>> text_of(torch.optim.AdamW), text_of(0.5)
    ('torch.optim.adamw:AdamW', 0.5)
    >>> text_of(functools.partial(torch.optim.AdamW, betas=(0.9, 0.99)))
    'torch.optim.adamw:AdamW(betas=(0.9, 0.99))'
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, functools.partial):
        words = [str(text_of(item)) for item in value.args]
        words += [f"{name}={text_of(item)}" for name, item in value.keywords.items()]
        return f"{text_of(value.func)}({', '.join(words)})"
    if isinstance(value, type) or inspect.isroutine(value):
        return name_of(value)
    text = str(value)
    return text if " at 0x" not in text else str(describe(value))


def same_setting(saved: Any, now: Any) -> bool:
    """Whether two settings are one; a class had `<class 'torch.optim.adamw.AdamW'>` for a name once."""
    if saved == now:
        return True
    match = re.fullmatch(r"<class '([\w.]+)'>", saved) if isinstance(saved, str) else None
    return match is not None and isinstance(now, str) and match[1] == now.replace(":", ".")


def name_of(value: Any) -> str:
    """`module:qualname` of a class or function; one that cannot be imported is told by its process too."""
    name = f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    if not is_local(value):
        return name
    owner = getattr(value, "__self__", value)
    try:
        number = _local.setdefault(owner, next(_numbers))
    except TypeError:  # what cannot be remembered is never the same again
        number = next(_numbers)
    return f"{name} {LOCAL}number {number} of process {_process()})"


def warn_of_local(functions: Mapping[str, Any], lost: str, stacklevel: int) -> None:
    """Warn of options whose functions no other process can recognise, and of what is lost by that."""
    for name, function in functions.items():
        if is_local(function):
            warnings.warn(
                f"{name}={text_of(function)}: a lambda, or a function inside of another, cannot be "
                f"recognised in another process, so {lost}. Define it at the top level of a file",
                UserWarning,
                stacklevel=stacklevel,
            )


def is_local(value: Any) -> bool:
    """Whether another process could not import this class, function or partial."""
    if isinstance(value, functools.partial):
        inside = [value.func, *value.args, *value.keywords.values()]
        return any(is_local(item) for item in inside if callable(item))
    if not (isinstance(value, type) or inspect.isroutine(value)):
        return (
            callable(value)
            and " at 0x" in str(value)
            and type(value).__repr__ is object.__repr__
            and is_local(type(value))
        )
    if inspect.isbuiltin(value) and isinstance(getattr(value, "__self__", None), types.ModuleType):
        return False
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in getattr(value, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    if inspect.ismethod(value) and not isinstance(value.__self__, type):
        return is_local(type(value.__self__))
    return found is not value and found != value


def describe(value: Any, depth: int = 0) -> Plain:
    """An object as nested plain values: its class and what it keeps under public names."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):  # a subclass's value alone
        return (
            str.__str__(value)
            if isinstance(value, str)
            else int(value)
            if isinstance(value, int)
            else float(value)
        )
    if isinstance(value, Tensor):  # not its values, which training may change
        return f"tensor {list(value.shape)} {value.dtype}"
    if isinstance(value, torch.dtype | torch.device | torch.Size):
        return str(value)
    if isinstance(value, type) or inspect.isroutine(value) or isinstance(value, functools.partial):
        return str(text_of(value))
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    if depth >= _MAX_DEPTH:
        return kind
    if isinstance(value, Mapping):
        return {str(key): describe(item, depth + 1) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(describe(item, depth + 1)) for item in value)
    if isinstance(value, list | tuple):
        return [describe(item, depth + 1) for item in value]
    if isinstance(value, nn.Module):
        return describe_module(value) if depth == 0 else kind
    parts = {
        name: describe(item, depth + 1)
        for name, item in _public(value)
        if (name not in _VOLATILE and not isinstance(item, Iterable | types.ModuleType))
        or isinstance(item, str | list | tuple | Mapping | set | frozenset | Tensor)
    }
    return {"class": kind, **parts}


def describe_module(module: nn.Module) -> dict[str, Any]:
    """The parts of a module by name, each with its class and the names and functions that it keeps.

    Its numbers may be counters; what they do shows in what the module computes.
    """
    return {
        name or "self": {
            "class": f"{type(part).__module__}:{type(part).__qualname__}",
            **{
                attribute: describe(value)
                for attribute, value in _public(part)
                if attribute not in _VOLATILE
                and (
                    isinstance(value, str) or inspect.isroutine(value) or isinstance(value, functools.partial)
                )
            },
        }
        for name, part in module.named_modules()
    }


def differences(old: Any, new: Any, where: str) -> list[str]:
    """What is another in two descriptions: `where was ..., is ...`;
    keys that one of them lacks are left alone.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        shared = [key for key in old if key in new]
        if "class" in shared and old["class"] != new["class"]:
            return [f"{where} was {old['class']}, is {new['class']}"]
        if "class_path" in shared and old["class_path"] != new["class_path"]:
            return [f"{where} was {old['class_path']}, is {new['class_path']}"]
        return [
            line
            for key in shared
            for line in differences(old[key], new[key], where if key == "init_args" else f"{where}.{key}")
        ]
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        return [
            line
            for number, (one, other) in enumerate(zip(old, new))
            for line in differences(one, other, f"{where}[{number}]")
        ]
    return [] if old == new or (old != old and new != new) else [f"{where} was {old!r:.80}, is {new!r:.80}"]


def _public(value: Any) -> list[tuple[str, Any]]:
    names = getattr(value, "__dict__", None)
    if names is None:
        names = {
            name: getattr(value, name, None)
            for cls in type(value).__mro__
            for name in getattr(cls, "__slots__", ())
        }
    return [(name, item) for name, item in names.items() if not name.startswith("_")]


@functools.cache
def _process_of(pid: int) -> str:
    return os.urandom(4).hex()


def _process() -> str:
    return _process_of(os.getpid())
