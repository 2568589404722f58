"""Numbers for constructors: NumPy's become Python's, and one of the wrong kind is refused by its name."""

from __future__ import annotations

import functools
import inspect
import numbers
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

_KINDS = {"int": "a whole number", "float": "a number", "bool": "True or False"}


def plain(value: Any) -> Any:
    """A NumPy number or bool as Python's, in tuples and lists too; all else as it is."""
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    if type(value) in (tuple, list):
        items = [plain(each) for each in value]
        changed = any(item is not each for item, each in zip(items, value))
        return type(value)(items) if changed else value
    return value


def take_plain_numbers(names: Mapping[str, Any], public: Iterable[str]) -> None:
    """Have a room's public classes take the numbers of NumPy as those of Python.

    A pair's configuration knows Python's numbers only, and torch's errors for a layer of `np.float64(2)`
    units do not say whose argument it was. An argument that is annotated `int`, `float`, `bool` or as a
    tuple of these, and is another kind of number, is a ValueError with its name, unless the constructor
    has its own words for it.

    Args:
        names: the room's names, `globals()` in its `__init__.py`.
        public: those of them that users construct, `__all__`.
    """
    for cls in (names[name] for name in public):
        for base in cls.__mro__ if inspect.isclass(cls) else ():
            room = base.__module__.split(".")[:2] == cls.__module__.split(".")[:2]
            construct: Any = vars(base).get("__init__")
            if room and construct and not hasattr(construct, "takes_plain") and not is_protocol(base):
                setattr(base, "__init__", _with_plain_numbers(construct))  # noqa: B010, mypy refuses the other


def is_protocol(cls: type) -> bool:
    """Whether a class only says what others must have."""
    return bool(vars(cls).get("_is_protocol", False))


def _with_plain_numbers(construct: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(construct)
    kinds = {name: str(parameter.annotation) for name, parameter in signature.parameters.items()}

    @functools.wraps(construct)
    def constructing(self: Any, *args: Any, **kwargs: Any) -> None:
        args = tuple(plain(each) for each in args)
        kwargs = {name: plain(value) for name, value in kwargs.items()}
        try:
            construct(self, *args, **kwargs)
        except (TypeError, RuntimeError) as error:
            _refuse(type(self), signature, kinds, (self, *args), kwargs, error)
            raise
        _refuse(type(self), signature, kinds, (self, *args), kwargs, None)

    constructing.takes_plain = True  # type: ignore[attr-defined]
    return constructing


def _refuse(
    cls: type,
    signature: inspect.Signature,
    kinds: dict[str, str],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    cause: Exception | None,
) -> None:
    """Raise ValueError for the first argument that is no number of its annotation's kind."""
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return  # Python says what is missing, or too much
    for name, value in given.items():
        kind, _, none = kinds[name].partition(" | ")
        several = re.fullmatch(r"tuple\[(int|float|bool), \.\.\.\]", kind)
        kind = several[1] if several else kind
        if kind not in _KINDS or none not in ("", "None") or (value is None and none):
            continue
        values = value if several and isinstance(value, tuple | list) else (value,)
        wrong = [each for each in values if isinstance(each, numbers.Number | str) and not _is(each, kind)]
        if wrong:
            said = f"{_KINDS[kind]}{' each' if several else ''}{' or None' if none else ''}"
            raise ValueError(f"{cls.__name__}: {name} must be {said}, got {wrong[0]!r:.80}") from cause


def _is(value: Any, kind: str) -> bool:
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    return isinstance(value, numbers.Integral if kind == "int" else numbers.Real)
