"""Plain values of a configuration against the annotations of the arguments that they are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from torch import nn


def cast_to(value: Any, hint: Any) -> Any:
    """The value as its annotation wants it (a tuple, a list); TypeError where it does not fit."""
    hint = getattr(hint, "__supertype__", getattr(hint, "__value__", hint))  # NewType, `type X = ...`
    origin, options = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return value
    if origin in (Union, UnionType):
        for option in options:
            try:
                return cast_to(value, option)
            except TypeError:
                continue
        raise TypeError
    if origin is Literal:
        fits = any(type(value) is type(option) and value == option for option in options)
    elif hint in (int, float):
        fits = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    elif hint is nn.ModuleList and isinstance(value, tuple):
        return nn.ModuleList(value)
    else:
        container: Any = origin or hint
        if not isinstance(container, type):
            return value
        if issubclass(container, Iterable) and not issubclass(container, nn.Module | str | Mapping):
            return _cast_sequence(value, container, options)
        if getattr(container, "_is_protocol", False):
            container = nn.Module
        fits = isinstance(value, container)
    if not fits:
        raise TypeError
    return value


def _cast_sequence(value: Any, container: type, options: tuple[Any, ...]) -> Any:
    if not isinstance(value, tuple):
        raise TypeError
    if container is tuple and options and options[-1] is not Ellipsis:
        if len(value) != len(options):
            raise TypeError
    else:
        options = (options[0] if options else Any,) * len(value)
    items = tuple(cast_to(item, option) for item, option in zip(value, options))
    return list(items) if container is list else items


def readable(hint: Any) -> str:
    """An annotation as an error message shows it."""
    plain = isinstance(hint, type) and not get_args(hint)
    return hint.__name__ if plain else str(hint).replace("typing.", "")
